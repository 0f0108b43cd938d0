import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { TestContext } from "node:test";
import type pg from "pg";
import { fixedClock } from "../../../platform/clock.ts";
import type { Stamp } from "../../../platform/config.ts";
import { createPool } from "../../../platform/db.ts";
import type { StampId, TenantId } from "../../../platform/ids.ts";
import { createLog } from "../../../platform/log.ts";
import { registerStamps } from "../../../platform/stamps.ts";
import { createTestDatabase, type TestDatabase } from "../../../testing/database.ts";
import { ownCredential, startLoopbackAzure } from "../../../testing/fakes/azure/arm/test-setup.ts";
import type { ArmServer } from "../../../testing/fakes/azure/arm-server.ts";
import type { IdentityServer } from "../../../testing/fakes/azure/identity-server.ts";
import type { KeyVaultServer } from "../../../testing/fakes/azure/key-vault.ts";
import { createAzureVault } from "../../vault/azure-vault.ts";
import { createStampVault } from "../../vault/stamp-vault.ts";
import { TENANT_SECRETS, tenantSecretName, type Vault } from "../../vault/vault.ts";
import type { RuntimeDriver, RuntimeSpec } from "../runtime-driver.ts";
import type { RuntimeSnapshots } from "../runtime-snapshots.ts";
import { type AzureSettings, openAzureDriver, openAzureSnapshots } from "./open-azure-driver.ts";

const CALLS_PER_MINUTE = 1_000_000;

export type AzureBench = {
  arm: ArmServer;
  vaults: readonly KeyVaultServer[];
  identity: IdentityServer;
  vault: Vault;
  database: TestDatabase;
  stamps: readonly Stamp[];
  /** As another process would: with connections of its own. `end` takes them away, as the end of the process does. */
  openDriver(options?: { requestMs?: number }): RuntimeDriver & { end(): Promise<void> };
  openSnapshots(): RuntimeSnapshots;
  /** A spec whose secrets lie in the vault once `seedSecrets` was called; another `version` gives another hash. */
  spec(tenantId: TenantId, version: number, changes?: Partial<RuntimeSpec>): RuntimeSpec;
  seedSecrets(tenantId: TenantId, stampId?: StampId): Promise<void>;
};

/** Azure on loopback with two stamps in two subscriptions, and the driver over it with the real SDKs. */
export async function setUpAzure(
  t: TestContext,
  { containers = "virtual" }: { containers?: "virtual" | "sandbox" } = {},
): Promise<AzureBench> {
  const database = await createTestDatabase();
  const { arm, identity, vaults, stamps } = await startLoopbackAzure(t, { stampCount: 2, containers });
  const [first] = stamps;
  assert.ok(first);
  await registerStamps(database.db, stamps);
  const opens: { end(): Promise<void> }[] = [];
  const places = new Map<TenantId, StampId>();
  // After Azure is gone, so that whoever still waits for an answer has heard that there is none.
  t.after(async () => {
    for (const open of opens) await open.end();
    await database[Symbol.asyncDispose]();
  });
  const credential = ownCredential(identity);
  const vault = createStampVault(
    new Map(
      stamps.map((stamp) => [stamp.id, createAzureVault({ url: stamp.vaultUrl, credential: async () => credential })]),
    ),
    async (tenantId) => places.get(tenantId),
  );
  const azure = {
    stamp: first,
    stampsFile: undefined,
    armCallsPerMinute: CALLS_PER_MINUTE,
    resourceManagerEndpoint: arm.url,
  };
  function connect(): { settings: AzureSettings; pool: pg.Pool } {
    const { url, db } = database;
    const pool = createPool({ url, max: 4, applicationName: "azure-test", onIdleError: () => undefined });
    const clock = fixedClock(new Date("2026-03-01T12:00:00Z"));
    const log = createLog("error", { write: () => true });
    return { settings: { azure, stamps, credential, databaseUrl: url, pool, db, clock, log, pollMs: 1 }, pool };
  }

  return {
    arm,
    vaults,
    identity,
    vault,
    database,
    stamps,
    openDriver({ requestMs } = {}) {
      const { settings, pool } = connect();
      const driver = openAzureDriver({ ...settings, ...(requestMs === undefined ? {} : { requestMs }) });
      let ending: Promise<void> | undefined;
      const opened = {
        ...driver,
        close: async () => undefined,
        end: () => (ending ??= driver.close().then(() => pool.end())),
      };
      opens.push(opened);
      return opened;
    },
    openSnapshots() {
      const { settings, pool } = connect();
      const snapshots = openAzureSnapshots(settings);
      opens.push({ end: () => snapshots.close().then(() => pool.end()) });
      return snapshots;
    },
    spec: azureSpec,
    async seedSecrets(tenantId, stampId = first.id) {
      places.set(tenantId, stampId);
      for (const secret of TENANT_SECRETS)
        await vault.set(tenantSecretName(tenantId, secret, 1), `${secret} of ${tenantId}`);
    },
  };
}

function azureSpec(tenantId: TenantId, version: number, changes: Partial<RuntimeSpec> = {}): RuntimeSpec {
  const [gateway, webhook, model, telegram] = (
    ["gateway-token", "webhook-secret", "model-key", "telegram-token"] as const
  ).map((secret) => tenantSecretName(tenantId, secret, 1));
  const unhashed = {
    tenantId,
    stampId: "default" as StampId,
    slug: "acme",
    image: `openclaw1.azurecr.io/openclaw:${version}`,
    config: { channels: { telegram: { name: "acme", webhookPort: 8_787 } } },
    env: { TZ: "Europe/Berlin" },
    secrets: {
      OPENCLAW_GATEWAY_TOKEN: gateway ?? "",
      TELEGRAM_WEBHOOK_SECRET: webhook ?? "",
      CP_MODEL_KEY: model ?? "",
      TELEGRAM_BOT_TOKEN: telegram ?? "",
    },
    cpu: 1,
    memoryMiB: 2_048,
    ...changes,
  };
  return { ...unhashed, hash: createHash("sha256").update(JSON.stringify(unhashed)).digest("hex") };
}
