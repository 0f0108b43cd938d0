import assert from "node:assert/strict";
import { after, before, test, type TestContext } from "node:test";
import { purgeTenant, requestPurge, restoreTenant } from "../orchestrator/orchestrator.ts";
import { setUpOrchestrator } from "../orchestrator/test-setup.ts";
import { UpstreamError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import { findTenantById, getTenant, listTenantEvents } from "../tenants/tenants.ts";
import { createTestDatabase } from "../testing/database.ts";
import { CALENDAR, MAIL, NEVER, openStage, providersOf, type Stage } from "./connect-test-setup.ts";
import { createConnectLink } from "./connect-links.ts";
import { endConnectionsOf } from "./disconnect.ts";
import { ensureToken } from "./ensure-token.ts";

const HOUR_MS = 3_600_000;
const reason = "asked";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());

/** A tenant that runs, with two connections of one account. */
async function setUp(t: TestContext) {
  const bench = await setUpOrchestrator(t, database.db);
  const { vault, clock } = bench;
  const stage = await openStage(t, database.db, { vault, clock });
  const id = await bench.newTenant({ billingExempt: true });
  await bench.move(id, { to: "provisioning", reason });
  await bench.settle(id);
  for (const provider of [MAIL, CALENDAR]) await stage.connect(id, { provider });
  const forget = async () => undefined;
  return {
    ...bench,
    stage,
    id,
    connections: async () => [await stage.find(id), await stage.find(id, CALENDAR)],
    secrets: () => vault.list(`connection-${id}-`),
    async deprovision() {
      await bench.move(id, { to: "deprovisioning", reason });
      await bench.settle(id);
      assert.equal((await getTenant(database.db, id)).status, "deleted");
    },
    purge: (own = stage.ctx) =>
      purgeTenant({ ...bench.ctx, endOutside: (one) => endConnectionsOf(own, one), forget }, id),
  };
}

async function givenUp({ ctx }: Stage, tenantId: TenantId): Promise<unknown[]> {
  const entries = await listTenantEvents(ctx.db, tenantId, 50);
  return entries.filter(({ action }) => action === "connection.revocation-given-up").map(({ detail }) => detail);
}

test("a removed tenant keeps its connections as they are, and has them again when it is restored", async (t) => {
  const { ctx, stage, id, clock, settle, deprovision, connections, secrets } = await setUp(t);
  const before = [await connections(), await stage.tokens(id)];
  await deprovision();
  assert.equal((await secrets()).length, 2);
  const ask = { minRemainingMs: 120_000, askedBy: "runtime", signal: NEVER } as const;
  const token = () => ensureToken(stage.ctx, { tenantId: id, provider: MAIL }, ask);
  const resting = await token();
  assert.ok(resting.kind === "gone" && resting.state === "at-rest");
  await assert.rejects(createConnectLink(stage.ctx, { id }, MAIL, { validMs: HOUR_MS }), { code: "tenant_gone" });
  await restoreTenant(ctx, id, { reason, unpaid: false });
  await settle(id);
  assert.equal((await getTenant(database.db, id)).status, "active");
  assert.deepEqual([await connections(), await stage.tokens(id)], before);
  clock.advance(2 * HOUR_MS);
  const again = await token();
  assert.ok(again.kind === "token" && stage.server.holderOf(again.accessToken) !== undefined);
});

test("a purge ends every grant and leaves no token, also of a connection that was never finished", async (t) => {
  const { ctx, stage, id, clock, deprovision, purge, secrets, vault } = await setUp(t);
  const fail = async () => Promise.reject(new UpstreamError("vault_down", "", { service: "vault", retryable: true }));
  const half = { ...stage.ctx, vault: { ...vault, getVersion: fail, delete: fail } };
  const unfinished = await stage.newTenant();
  await assert.rejects(stage.connect(unfinished, { ctx: half }), { code: "vault_down" });
  assert.equal((await vault.list(`connection-${unfinished}-`)).length, 1);
  await assert.rejects(endConnectionsOf(stage.ctx, unfinished), { code: "revocation_pending" });
  clock.advance(120_000);
  await endConnectionsOf(stage.ctx, unfinished);
  assert.deepEqual(await vault.list(`connection-${unfinished}-`), []);

  await deprovision();
  await requestPurge(ctx, id, reason);
  await purge();
  assert.equal(await findTenantById(database.db, id), undefined);
  assert.deepEqual(await secrets(), []);
  assert.ok(stage.server.grants.every(({ isAlive }) => !isAlive));
  await purge();
});

test("a provider that is down holds a purge up for a day, not for ever", async (t) => {
  const { ctx, stage, id, clock, deprovision, purge, secrets } = await setUp(t);
  await deprovision();
  await requestPurge(ctx, id, reason);
  // However late it begins.
  clock.advance(48 * HOUR_MS);
  stage.server.failNext("revoke", { status: 503 }, 10);
  await assert.rejects(purge(), { code: "revocation_pending" });
  assert.equal((await secrets()).length, 2);
  clock.advance(24 * HOUR_MS - 1);
  await assert.rejects(purge(), { code: "revocation_pending" });
  clock.advance(1);
  await purge();
  assert.equal(await findTenantById(database.db, id), undefined);
  assert.deepEqual(await secrets(), []);
});

test("the grant of an account that another tenant has connected, too, outlives a purge (F77)", async (t) => {
  const { ctx, stage, id, deprovision, purge, secrets } = await setUp(t);
  const other = await stage.newTenant();
  await stage.connect(other);
  await deprovision();
  await requestPurge(ctx, id, reason);
  await purge();
  assert.deepEqual(await secrets(), []);
  assert.ok(stage.server.holderOf((await stage.tokens(other))?.accessToken ?? "") !== undefined);
});

test("a purge is not held up for ever by tokens that can't be read, nor by those that nobody knows of", async (t) => {
  const { ctx, stage, id, clock, deprovision, purge, secrets, vault } = await setUp(t);
  for (const name of await secrets()) await vault.set(name, "no tokens");
  await vault.set(`connection-${id}-left-behind`, "no tokens either");
  await deprovision();
  await requestPurge(ctx, id, reason);
  await assert.rejects(purge(), { code: "revocation_pending" });
  assert.equal((await secrets()).length, 3);
  clock.advance(24 * HOUR_MS);
  await purge();
  assert.equal(await findTenantById(database.db, id), undefined);
  assert.deepEqual(await secrets(), []);
  assert.deepEqual(await givenUp(stage, id), [
    { provider: MAIL, code: "tokens_unreadable" },
    { provider: CALENDAR, code: "tokens_unreadable" },
  ]);
});

test("of a grant that a provider can't be told to end, a purge leaves word in the audit log", async (t) => {
  const { ctx, stage, id, deprovision, purge, secrets } = await setUp(t);
  const mute = stage.ctx.providers
    .list()
    .map(({ definition, client }) => ({ definition: { ...definition, revokeUrl: undefined }, client }));
  await deprovision();
  await requestPurge(ctx, id, reason);
  await purge({ ...stage.ctx, providers: providersOf(mute) });
  assert.equal(await findTenantById(database.db, id), undefined);
  assert.deepEqual(await secrets(), []);
  assert.deepEqual(await givenUp(stage, id), [
    { provider: MAIL, code: "no_revocation" },
    { provider: CALENDAR, code: "no_revocation" },
  ]);
});

test("a former grant that waits to be ended is ended by a purge (F77)", async (t) => {
  const { ctx, stage, id, deprovision, purge, secrets } = await setUp(t);
  await stage.connect(id, { decision: { subject: stage.bob.subject } });
  assert.equal((await stage.ending(id)).length, 1);
  await deprovision();
  await requestPurge(ctx, id, reason);
  await purge();
  assert.deepEqual([await secrets(), await stage.ending(id)], [[], []]);
  assert.ok(stage.server.grants.every(({ isAlive }) => !isAlive));
});
