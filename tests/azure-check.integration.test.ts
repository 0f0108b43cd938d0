import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { sql } from "kysely";
import { PULL_IDENTITY, STATE_SHARE } from "../src/core/adapters/runtime/azure/names.ts";
import { registerStamps } from "../src/core/platform/stamps.ts";
import { armClients } from "../src/core/testing/fakes/azure/arm/test-setup.ts";
import { startContainerRegistry } from "../src/core/testing/fakes/azure/container-registry.ts";
import { openAzureStage } from "./azure-stage.ts";
import { documentOf, expectCode, openFolder, temporaryFolder } from "./command.ts";

type Line = { name: string; status: string; message: string; remedy: string | null };

/** Two stamps that pull from one registry, on which `openclaw:1` lies. */
async function openStage(t: TestContext) {
  const stage = await openAzureStage(t);
  const registry = await startContainerRegistry(stage.identity);
  t.after(() => registry.close());
  const digest = registry.push("openclaw", "1");
  const [first, second] = stage.stamps;
  assert.ok(first && second);
  const stampsFile = path.join(await temporaryFolder(t), "stamps.json");
  const writeStamps = (changes: object) =>
    writeFile(stampsFile, JSON.stringify({ stamps: [{ ...second, ...changes }] }));
  await writeStamps({ acrServer: registry.server });
  const env = {
    ...stage.env,
    AZURE_ACR_SERVER: registry.server,
    OPENCLAW_STAMPS_FILE: stampsFile,
    OPENCLAW_RUNTIME_IMAGE: `${registry.server}/openclaw:1`,
  };
  /** What the doctor says of Azure, as `status: message`, by name; once it is shown that it only looked. */
  async function check(changes: Record<string, string> = {}) {
    const openclaw = await openFolder(t, { ...env, ...changes });
    const [from, before] = [stage.arm.calls.length, stateOf()];
    const outcome = await openclaw("check", "--json");
    const lines = documentOf(outcome)["checks"] as Line[];
    assert.deepEqual(
      stage.arm.calls.slice(from).filter(({ method }) => method !== "GET"),
      [],
    );
    assert.deepEqual(stateOf(), before);
    const about = lines.filter(({ name }) => /^azure |^runtime image$|^vault /.test(name));
    return new Map(
      about.map(({ name, status, message, remedy }) => [name, `${status}: ${message} ${remedy ?? ""}`.trim()]),
    );
  }
  const stateOf = () => {
    const { apps, identities, roleAssignments, shares, storages, jobs } = stage.arm.state;
    return [
      apps(),
      identities(),
      roleAssignments(),
      shares(),
      storages(),
      jobs(),
      stage.vaults.map((one) => one.values()),
    ];
  };
  return { ...stage, env, registry, digest, first, second, writeStamps, check };
}

test("check finds Azure to be as it should, stamp by stamp, and changes nothing there (F33)", async (t) => {
  const { check, digest, env, registry } = await openStage(t);
  const lines = await check();
  assert.deepEqual(
    [...lines].filter(([, said]) => !said.startsWith("ok: ")),
    [],
  );
  assert.equal(lines.get("runtime image"), `ok: ${env.OPENCLAW_RUNTIME_IMAGE} is ${digest}`);
  for (const stamp of ["default", "stamp-2"]) {
    assert.match(lines.get(`azure ${stamp}: environment`) ?? "", /openclaw-env in /);
    assert.match(lines.get(`azure ${stamp}: state share`) ?? "", /is made with the first runtime/);
    assert.match(lines.get(`azure ${stamp}: cores`) ?? "", /^ok: 0 of 100 cores$/);
    assert.match(lines.get(`azure ${stamp}: room`) ?? "", /^ok: 0 of 900 runtimes/);
  }
  // By its digest it is the same, and nothing was asked of the registry but to read.
  const named = await check({ OPENCLAW_RUNTIME_IMAGE: `${registry.server}/openclaw@${digest}` });
  assert.match(named.get("runtime image") ?? "", /^ok: /);
  assert.deepEqual(
    registry.calls.filter(({ method, path: at }) => method !== "HEAD" && !at.startsWith("/oauth2/")),
    [],
  );
});

test("check finds an image that isn't there, whoever named it, that can't be read, or that a stamp can't pull (F33)", async (t) => {
  const { check, database, env, openclaw, registry, writeStamps } = await openStage(t);
  const missing = `${registry.server}/openclaw:2`;
  const unpushed = await check({ OPENCLAW_RUNTIME_IMAGE: missing });
  assert.match(unpushed.get("runtime image") ?? "", /^failed: .*openclaw:2 is not in its registry.*Push it/);
  registry.permit(false);
  assert.match((await check()).get("runtime image") ?? "", /^failed: .*AcrPull/);
  registry.permit(true);

  // Sign-ups get what the operator has set, not what the environment says.
  expectCode(await openclaw("fleet", "settings", "set", "--image", missing), 0);
  assert.match((await check()).get("runtime image") ?? "", /^failed: .*openclaw:2 is not in its registry/);
  await sql`UPDATE fleet_settings SET current_release_id = NULL`.execute(database.db);
  assert.match((await check()).get("runtime image") ?? "", /^ok: /);

  await writeStamps({});
  const lines = await check();
  assert.match(
    lines.get("azure stamp-2: pull identity") ?? "",
    /^failed: .*openclaw2\.azurecr\.io: it could not be pulled/,
  );
  assert.match(lines.get("azure default: pull identity") ?? "", /^ok: /);
  await registry.close();
  assert.match(
    (await check(env)).get("runtime image") ?? "",
    /^failed: The registry 127\.0\.0\.1:\d+ .*can't be reached/,
  );
});

test("check says of each stamp what is missing on it, or won't do: environment, pull identity, share, room (F31, F33, F42)", async (t) => {
  const stage = await openStage(t);
  const { arm, check, database, env, first, second, writeStamps } = stage;
  const clients = armClients(stage, second);
  await clients.identities.userAssignedIdentities.delete(second.resourceGroup, PULL_IDENTITY);
  const smb = { enabledProtocols: "SMB", shareQuota: 100 };
  await clients.storage.fileShares.create(second.resourceGroup, second.storageAccount, STATE_SHARE, smb);
  await registerStamps(database.db, [first, second]);
  await sql`
    WITH tenant AS (
      INSERT INTO tenants (id, stamp_id, slug, display_name, email, status_changed_at, created_at, updated_at)
      SELECT gen_random_uuid(), CASE WHEN n <= 900 THEN ${first.id} ELSE ${second.id} END, 'tenant-' || n, 'x', n || '@example.com', now(), now(), now()
      FROM generate_series(1, 1720) AS n
      RETURNING id, stamp_id)
    INSERT INTO azure_runtimes (tenant_id, stamp_id, spec, desired, updated_at)
    SELECT id, stamp_id, '{}', 'awake', now() FROM tenant`.execute(database.db);
  const lines = await check({ AZURE_CONTAINER_ENV_ID: `${first.environmentId}-gone`, AZURE_STORAGE_ACCOUNT: "gone" });
  const said = (name: string) => lines.get(`azure ${name}`) ?? "";
  assert.match(said("default: environment"), /^failed: there is no environment openclaw-env-gone in openclaw-1/);
  assert.match(said("default: cores"), /^failed: /);
  assert.match(said("default: state share"), /^failed: there is no storage account gone/);
  assert.match(said("default: pull identity"), /^ok: /);
  assert.match(said("default: room"), /^failed: 900 of 900 runtimes .*Add a stamp/);
  assert.match(said("stamp-2: environment"), /^ok: /);
  assert.match(said("stamp-2: state share"), /^failed: openclaw-state does not speak NFS/);
  assert.match(said("stamp-2: pull identity"), /^failed: there is no identity openclaw-pull.*AcrPull/);
  assert.match(said("stamp-2: room"), /^warning: 820 of 900 runtimes/);
  // A public image needs nobody to pull it.
  await writeStamps({ acrServer: undefined });
  const open = await check({ ...env, AZURE_ACR_SERVER: "", OPENCLAW_RUNTIME_IMAGE: "127.0.0.1:1/openclaw:1" });
  assert.match(open.get("azure stamp-2: pull identity") ?? "", /^ok: none is needed/);
  assert.deepEqual(arm.violations, []);
});
