import assert from "node:assert/strict";
import { after, before, test, type TestContext } from "node:test";
import { DefaultAzureCredential } from "@azure/identity";
import { createAzureVault } from "../adapters/vault/azure-vault.ts";
import { connectionSecretName, type Vault } from "../adapters/vault/vault.ts";
import { ConflictError, UpstreamError } from "../platform/errors.ts";
import { listTenantEvents } from "../tenants/tenants.ts";
import { createTestDatabase } from "../testing/database.ts";
import { trustLoopback } from "../testing/fakes/azure/certificate.ts";
import { startIdentityServer } from "../testing/fakes/azure/identity-server.ts";
import { startKeyVault } from "../testing/fakes/azure/key-vault.ts";
import { CALENDAR, MAIL, NEVER, openStage, providersOf } from "./connect-test-setup.ts";
import { disconnect } from "./disconnect.ts";
import { ensureToken } from "./ensure-token.ts";
import { listEvents } from "./events.ts";
import { withLease } from "./lease.ts";
import { sweepConnections } from "./sweep.ts";
import { sweepRevocations } from "./sweep-revocations.ts";

const HOUR_MS = 3_600_000;
const ASKED = { reason: "asked", askedBy: "operator" } as const;

let database: Awaited<ReturnType<typeof createTestDatabase>>;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());

/** A tenant whose mail is connected. */
async function setUp(t: TestContext, options: Parameters<typeof openStage>[2] = {}) {
  const stage = await openStage(t, database.db, options);
  const tenantId = await stage.newTenant();
  const key = { tenantId, provider: MAIL };
  assert.equal((await stage.connect(tenantId)).kind, "connected");
  const { accessToken = "" } = (await stage.tokens(tenantId)) ?? {};
  const works = (token = accessToken) => stage.server.holderOf(token) !== undefined;
  return {
    ...stage,
    tenantId,
    key,
    works,
    disconnect: (own = stage.ctx) => disconnect(own, key, ASKED),
    sweep: () => sweepRevocations(stage.ctx, NEVER),
    outcomes: async () =>
      (await listEvents(database.db, key, 50))
        .filter(({ kind }) => kind === "revoke")
        .map(({ outcome, code }) => `${outcome} ${code}`),
  };
}

test("whoever disconnects ends the grant at the provider, and no token is left (F77)", async (t) => {
  const { disconnect, find, ending, secrets, works, tenantId, outcomes } = await setUp(t);
  assert.deepEqual(await disconnect(), { revocation: "revoked" });
  assert.equal(works(), false);
  assert.deepEqual([await secrets(tenantId), await ending(tenantId)], [[], []]);
  const connection = await find(tenantId);
  assert.deepEqual([connection?.state, connection?.reason, connection?.refreshAt], ["revoked", "disconnected", null]);
  assert.deepEqual(await outcomes(), ["done revoked"]);
  await assert.rejects(disconnect(), { code: "already_disconnected" });
});

test("a grant that others stand on is left alive, and ends with the last of them (F77)", async (t) => {
  const { ctx, connect, disconnect: first, works, tenantId, newTenant, tokens } = await setUp(t);
  const other = await newTenant();
  await connect(other, { provider: CALENDAR });
  const { accessToken = "" } = (await tokens(other, CALENDAR)) ?? {};
  assert.deepEqual(await first(), { revocation: "shared" });
  assert.equal(await tokens(tenantId), undefined);
  assert.equal(works(accessToken), true);
  assert.deepEqual(await disconnect(ctx, { tenantId: other, provider: CALENDAR }, ASKED), { revocation: "revoked" });
  assert.equal(works(accessToken), false);
});

test("where each consent is a grant of its own, it ends though the same account is connected elsewhere (F77)", async (t) => {
  const { connect, disconnect, works, newTenant, tokens } = await setUp(t, { manner: "plain" });
  const other = await newTenant();
  await connect(other);
  assert.deepEqual(await disconnect(), { revocation: "revoked" });
  assert.deepEqual([works(), works((await tokens(other))?.accessToken)], [false, true]);
});

test("whoever connected the account while its grant was being revoked is found dead at once, and told (F77)", async (t) => {
  const { ctx, connect, disconnect, find, newTenant, server, jobs } = await setUp(t);
  const other = await newTenant();
  const held = server.hold("revoke", "before");
  const disconnected = disconnect();
  await held.reached;
  assert.equal((await connect(other)).kind, "connected");
  held.release();
  assert.deepEqual(await disconnected, { revocation: "revoked" });
  await sweepConnections(ctx, NEVER);
  const { state, reason, grantId } = (await find(other)) ?? {};
  assert.deepEqual([state, reason], ["expired", "grant_dead"]);
  assert.deepEqual((await jobs("connection.tell")).at(-1), {
    tenantId: other,
    provider: MAIL,
    grantId,
    news: "expired",
  });
});

test("a provider that can't be reached is told later, with patience, and until then the tokens are kept", async (t) => {
  const { disconnect, sweep, find, ending, secrets, works, tenantId, server, clock, outcomes } = await setUp(t);
  server.failNext("revoke", { status: 503, headers: { "retry-after": "600" } });
  server.failNext("revoke", { status: 503 });
  assert.deepEqual(await disconnect(), { revocation: "pending" });
  const [pending] = await ending(tenantId);
  assert.deepEqual([(await find(tenantId))?.state, pending?.attempts], ["revoked", 1]);
  assert.deepEqual(pending?.tryAt, new Date(clock.now().getTime() + 600_000));
  assert.ok((await secrets(tenantId)).length === 1 && works());
  clock.advance(599_000);
  assert.deepEqual(await sweep(), { ended: 0, pending: 0 });
  clock.advance(1_000);
  assert.deepEqual(await sweep(), { ended: 0, pending: 1 });
  clock.advance(HOUR_MS);
  assert.deepEqual(await sweep(), { ended: 1, pending: 0 });
  assert.equal(works(), false);
  assert.deepEqual([await secrets(tenantId), await ending(tenantId)], [[], []]);
  assert.deepEqual(await outcomes(), ["unavailable server_error", "unavailable server_error", "done revoked"]);
});

test("after a day the tokens go all the same, and that the provider was not told is noted", async (t) => {
  const { disconnect, sweep, ending, secrets, tenantId, server, clock, outcomes } = await setUp(t);
  server.failNext("revoke", { status: 503 }, 10);
  await disconnect();
  clock.advance(24 * HOUR_MS - 1);
  assert.deepEqual(await sweep(), { ended: 0, pending: 1 });
  clock.advance(HOUR_MS);
  assert.deepEqual(await sweep(), { ended: 1, pending: 0 });
  assert.equal(server.grants[0]?.isAlive, true);
  assert.deepEqual([await secrets(tenantId), await ending(tenantId)], [[], []]);
  assert.equal((await outcomes()).at(-1), "failed server_error");
  const audit = await listTenantEvents(database.db, tenantId, 5);
  assert.equal(audit.at(-1)?.action, "connection.revocation-given-up");
});

test("where the client or the provider is not configured, the provider is told by somebody for whom it is (F77)", async (t) => {
  const { ctx, disconnect, sweep, tokens, works, tenantId, clock, outcomes } = await setUp(t);
  const unready = ctx.providers.list().map(({ definition }) => ({ definition, client: undefined }));
  for (const known of [[], unready])
    assert.deepEqual(await disconnect({ ...ctx, providers: providersOf(known) }), { revocation: "pending" });
  assert.ok((await tokens(tenantId)) !== undefined && works());
  clock.advance(HOUR_MS);
  assert.deepEqual(await sweep(), { ended: 1, pending: 0 });
  assert.equal(works(), false);
  assert.deepEqual(await outcomes(), ["unavailable provider_unknown", "unavailable client_missing", "done revoked"]);
});

test("what can't be revoked is said to be so, and its tokens go", async (t) => {
  const { ctx, disconnect, tokens, tenantId, outcomes } = await setUp(t);
  const mute = ctx.providers
    .list()
    .map(({ definition, client }) => ({ definition: { ...definition, revokeUrl: undefined }, client }));
  assert.deepEqual(await disconnect({ ...ctx, providers: providersOf(mute) }), { revocation: "impossible" });
  assert.equal(await tokens(tenantId), undefined);
  assert.deepEqual(await outcomes(), ["failed no_revocation"]);
  const audit = await listTenantEvents(database.db, tenantId, 5);
  assert.equal(audit.at(-1)?.action, "connection.revocation-given-up");
});

test("a grant that came to life again by another consent is not ended, whatever was to be told (F77)", async (t) => {
  const { connect, disconnect, sweep, find, secrets, tokens, works, tenantId, server, clock } = await setUp(t);
  server.failNext("revoke", { status: 503 });
  await disconnect();
  assert.equal((await connect(tenantId)).kind, "connected");
  clock.advance(60_000);
  assert.deepEqual(await sweep(), { ended: 1, pending: 0 });
  assert.deepEqual([(await find(tenantId))?.state, works((await tokens(tenantId))?.accessToken)], ["active", true]);
  assert.equal((await secrets(tenantId)).length, 1);
});

test("what breaks off in the middle gives no token out, and is ended by the sweep", async (t) => {
  const { ctx, disconnect, sweep, find, secrets, tenantId, server, clock } = await setUp(t);
  const cutOff = new UpstreamError("cut_off", "It ends here.", { service: "vault", retryable: true });
  const broken: Vault = { ...ctx.vault, delete: () => Promise.reject(cutOff) };
  await assert.rejects(disconnect({ ...ctx, vault: broken }), { code: "cut_off" });
  assert.equal((await find(tenantId))?.state, "revoked");
  clock.advance(120_000);
  assert.deepEqual(await sweep(), { ended: 1, pending: 0 });
  assert.deepEqual(await secrets(tenantId), []);
  // It knew already.
  assert.equal(server.requests.filter(({ path }) => path === "/revoke").length, 1);
});

test("a refresh that was cut off has newer tokens in the vault, and those are what ends the grant (F76)", async (t) => {
  const { ctx, key, disconnect, find, tokens, tenantId, server } = await setUp(t, { rotates: true });
  const connection = await find(tenantId);
  const kept = await tokens(tenantId);
  assert.ok(connection !== undefined && kept !== undefined);
  const client = ctx.providers.find(MAIL)?.client;
  const renewed = await client?.refresh(kept.refreshToken ?? "", NEVER);
  assert.ok(renewed?.kind === "granted");
  const { accessToken, refreshToken = "" } = renewed.reply;
  await withLease(ctx, key, { patienceMs: 0 }, async ({ fence }) => {
    const text = JSON.stringify({ ...kept, fence, accessToken, refreshToken });
    await ctx.vault.set(connectionSecretName(tenantId, MAIL, kept.grantId), text);
  });
  await disconnect();
  const [told] = server.requests.filter(({ path }) => path === "/revoke");
  assert.equal(told?.parameters.get("token"), refreshToken);
});

test("a refresh that is under way comes to an end first, and what it got is ended, too", async (t) => {
  const { ctx, key, disconnect, tokens, tenantId, server, clock } = await setUp(t, { rotates: true });
  clock.advance(2 * HOUR_MS);
  const held = server.hold("token", "after");
  const ask = { minRemainingMs: 120_000, askedBy: "runtime", signal: NEVER } as const;
  const refreshed = ensureToken(ctx, key, ask);
  await held.reached;
  const disconnected = disconnect();
  held.release();
  assert.equal((await refreshed).kind, "token");
  assert.deepEqual(await disconnected, { revocation: "revoked" });
  assert.equal(server.grants[0]?.isAlive, false);
  assert.equal(await tokens(tenantId), undefined);
  const after = await ensureToken(ctx, key, ask);
  assert.ok(after.kind === "gone" && after.state === "revoked");
});

test("whoever connects anew while a disconnect is held up keeps what was written then", async (t) => {
  const { ctx, server, tenantId, disconnect, connect, tokens, find } = await setUp(t, { manner: "plain" });
  const hold = server.hold("revoke", "before");
  const ended = disconnect();
  await hold.reached;
  await ctx.db
    .updateTable("connectionLeases")
    .set({ leaseUntil: new Date(0) })
    .execute();
  assert.equal((await connect(tenantId)).kind, "connected");
  hold.release();
  assert.deepEqual(await ended, { revocation: "revoked" });
  assert.ok(server.holderOf((await tokens(tenantId))?.accessToken ?? "") !== undefined);
  assert.equal((await find(tenantId))?.state, "active");
});

test("tokens that can't be read go after a day all the same, and that is noted", async (t) => {
  const { disconnect, sweep, find, secrets, tenantId, vault, clock, outcomes } = await setUp(t);
  const { grantId = "" } = (await find(tenantId)) ?? {};
  await vault.set(connectionSecretName(tenantId, MAIL, grantId), "no tokens");
  assert.deepEqual(await disconnect(), { revocation: "pending" });
  clock.advance(24 * HOUR_MS);
  assert.deepEqual(await sweep(), { ended: 1, pending: 0 });
  assert.deepEqual(await secrets(tenantId), []);
  assert.deepEqual(await outcomes(), ["unavailable tokens_unreadable", "failed tokens_unreadable"]);
  const audit = await listTenantEvents(database.db, tenantId, 5);
  assert.equal(audit.at(-1)?.action, "connection.revocation-given-up");
});

test("two who disconnect at once: one does, and the other finds it done", async (t) => {
  const { disconnect, server } = await setUp(t);
  const results = await Promise.allSettled([disconnect(), disconnect()]);
  const [refused] = results.filter((result) => result.status === "rejected");
  assert.ok(refused?.reason instanceof ConflictError);
  assert.equal(server.requests.filter(({ path }) => path === "/revoke").length, 1);
});

test("disconnecting and connecting anew at once works on a vault that keeps deleted names (F74)", async (t) => {
  trustLoopback();
  const identity = await startIdentityServer();
  t.after(() => identity.close());
  Object.assign(process.env, identity.env);
  const keyVault = await startKeyVault(identity);
  t.after(() => keyVault.close());
  keyVault.settleAfter(2);
  const vault = createAzureVault({ url: keyVault.url, credential: async () => new DefaultAzureCredential() });
  const { connect, disconnect, find, tokens, works, tenantId } = await setUp(t, { vault });
  for (let round = 0; round < 2; round++) {
    const { grantId: former = "" } = (await find(tenantId)) ?? {};
    assert.deepEqual(await disconnect(), { revocation: "revoked" });
    assert.ok(keyVault.deleted().includes(connectionSecretName(tenantId, MAIL, former)));
    assert.equal((await connect(tenantId)).kind, "connected");
    const { grantId = "", secretVersion = "" } = (await find(tenantId)) ?? {};
    const text = await vault.getVersion(connectionSecretName(tenantId, MAIL, grantId), secretVersion);
    assert.equal(JSON.parse(text ?? "{}").grantId, grantId);
    assert.equal(works((await tokens(tenantId))?.accessToken), true);
  }
});
