import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";
import { sql } from "kysely";
import { createOAuthClient } from "../adapters/oauth/oauth-client.ts";
import type { ProviderDefinition, Providers } from "../adapters/oauth/oauth-provider.ts";
import { definitionOf } from "../adapters/oauth/test-setup.ts";
import { createFileVault } from "../adapters/vault/file-vault.ts";
import { connectionSecretName, type Vault } from "../adapters/vault/vault.ts";
import { addMs, fixedClock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import type { ProviderId } from "../platform/ids.ts";
import { createLog } from "../platform/log.ts";
import { createTenant } from "../tenants/tenants.ts";
import { createRecording } from "../testing/fakes/loopback.ts";
import { LOOPBACK_CLIENT, type OAuthProviderOptions, startOAuthProvider } from "../testing/fakes/oauth/oauth-server.ts";
import { planRefresh } from "./backoff.ts";
import type { Connection } from "./connection.ts";
import type { TokenAnswer } from "./ensure-token.ts";
import { listEvents } from "./events.ts";
import { readTokens } from "./kept-tokens.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import * as store from "./store.ts";
import type { ConnectionKey } from "./store.ts";
import { writeTokenSet } from "./token-set.ts";

export const LOOPBACK = "loopback" as ProviderId;
export const NEVER = new AbortController().signal;
export const HOUR_MS = 3_600_000;
const SCOPES = ["openid", "email", "mail.modify"];

export type Stage = Awaited<ReturnType<typeof openStage>>;

/** A provider on loopback, a vault and connections to the one whose tokens lie in the other, all by one clock that stands still. */
export async function openStage(
  t: TestContext,
  db: Db,
  options: OAuthProviderOptions & { random?: () => number } = {},
) {
  const folder = await mkdtemp(path.join(tmpdir(), "openclaw-integrations-"));
  t.after(() => rm(folder, { recursive: true }));
  const clock = fixedClock(new Date("2026-11-20T10:00:00Z"));
  const provider = await startOAuthProvider({ clock, rotates: true, ...options });
  t.after(() => provider.close());
  const { entries: lines, ...logged } = createRecording<string>();
  const log = createLog("debug", { write: (line) => logged.add(line) });
  const { random = () => 1 } = options;

  /** One process: what it shares among its own askers, it does not share with another's. */
  function worker(wrap: (vault: Vault) => Vault = (vault) => vault): IntegrationsContext {
    const vault = wrap(createFileVault({ folder: path.join(folder, "vault"), key: undefined }));
    return { db, clock, log, actor: { name: "test" }, vault, random, providers: providersOf(provider) };
  }

  const ctx = worker();

  /** A tenant with a connection that was made now. */
  async function connect(change: Partial<Connection> = {}): Promise<ConnectionKey> {
    const slug = `t-${randomUUID().slice(0, 13)}`;
    const { tenant } = await createTenant(ctx, { slug, email: `${slug}@example.com`, billingExempt: true });
    const key = { tenantId: tenant.id, provider: change.provider ?? LOOPBACK };
    await reconnect(key, change);
    return key;
  }

  /** Connects as another consent does, without asking for the lease. */
  async function reconnect(key: ConnectionKey, change: Partial<Connection> = {}, fence = 0): Promise<void> {
    const now = clock.now();
    const { accessToken, refreshToken } = provider.grant({ scopes: SCOPES });
    const accessExpiresAt = addMs(now, (options.accessTokenSeconds ?? 3_600) * 1_000);
    const grantId = randomUUID();
    const times = { obtainedAt: now.toISOString(), accessExpiresAt: accessExpiresAt.toISOString() };
    const tokens = { fence, grantId, accessToken, ...times };
    const kept = change.hasRefreshToken === false ? null : (refreshToken ?? null);
    const text = writeTokenSet({ ...tokens, refreshToken: kept });
    const row = {
      ...key,
      state: "active" as const,
      reason: null,
      stateChangedAt: now,
      grantId,
      client: "loopback",
      accountSubject: "1001",
      accountEmail: "ann@example.com",
      scopes: SCOPES,
      connectedAt: now,
      secretVersion: await ctx.vault.set(connectionSecretName(key.tenantId, key.provider, grantId), text),
      secretFence: 0,
      accessExpiresAt,
      hasRefreshToken: true,
      refreshAt: planRefresh(now, accessExpiresAt),
      ...change,
    };
    await store.replace(db, row);
  }

  const connection = async (key: ConnectionKey): Promise<Connection> => {
    const found = await store.find(db, key);
    assert.ok(found !== undefined);
    return found;
  };
  return {
    ctx,
    clock,
    provider,
    lines,
    worker,
    connect,
    reconnect,
    connection,
    /** The tokens that count. */
    async stored(key: ConnectionKey) {
      return readTokens(ctx.vault, await connection(key));
    },
    sawLine: (text: string) => logged.waitFor((line) => line.includes(text)),
    /** How often the provider was asked to refresh. */
    refreshes: () => provider.requests.filter(({ path }) => path === "/token").length,
    /** As if whoever has the lease had been silent for its time. */
    runOut: (key: ConnectionKey) =>
      db
        .updateTable("connectionLeases")
        .set({ leaseUntil: sql<Date>`clock_timestamp()` })
        .where("tenantId", "=", key.tenantId)
        .where("leaseUntil", "is not", null)
        .execute(),
    outcomes: async (key: ConnectionKey) => (await listEvents(db, key, 100)).map(({ outcome }) => outcome),
    /** The news that waits to be told. */
    async news(key: ConnectionKey): Promise<number> {
      const { rows } = await sql<{ count: number }>`
        SELECT count(*)::int FROM graphile_worker.jobs WHERE key LIKE ${`tell:${key.tenantId}:%`}`.execute(db);
      return rows[0]?.count ?? 0;
    },
    setStatus: (key: ConnectionKey, status: "active" | "deprovisioning" | "deleted") =>
      db.updateTable("tenants").set({ status }).where("id", "=", key.tenantId).execute(),
  };
}

/** All at one server. */
export function providersOf(
  server: { url: string },
  ids: readonly ProviderId[] = [LOOPBACK],
  timeoutMs = 5_000,
): Providers {
  const providers = ids.map((id) => {
    const definition: ProviderDefinition = definitionOf(server, { id });
    return { definition, client: createOAuthClient(definition, LOOPBACK_CLIENT, { timeoutMs }) };
  });
  return { list: () => providers, find: (id) => providers.find(({ definition }) => definition.id === id) };
}

/** The token, of one who must get one. */
export function tokenOf(answer: TokenAnswer): string {
  assert.ok(answer.kind === "token", JSON.stringify(answer));
  return answer.accessToken;
}
