import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test, type TestContext } from "node:test";
import { request } from "undici";
import { HOUR_MS, openStage } from "../core/integrations/test-setup.ts";
import type { TenantId } from "../core/platform/ids.ts";
import { createRuntimeAuth } from "../core/router/router.ts";
import { createTestDatabase } from "../core/testing/database.ts";
import { createServer, listen } from "./http.ts";
import { registerIntegrations } from "./integrations-gateway.ts";
import { createTokenLimit } from "./token-limit.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());

const SECRET_TEXT = /(access|refresh)-[\w-]{20}/;

async function open(t: TestContext, { daemons = 1 } = {}) {
  const stage = await openStage(t, database.db);
  const { ctx, clock } = stage;
  const keyOf = (tenantId: TenantId) => `model-key-of-${tenantId}`;
  const auth = createRuntimeAuth({
    clock,
    credentials: {
      find: async (tenantId, kind) =>
        kind === "model-key"
          ? [{ sha256: createHash("sha256").update(keyOf(tenantId)).digest(), expiresAt: null }]
          : [],
    },
  });
  const limit = createTokenLimit({ redis: undefined, countDaemons: async () => daemons });
  const results: string[] = [];
  const app = createServer(ctx.log);
  await app.register(async (scope) =>
    registerIntegrations(scope, {
      ctx,
      auth,
      limit,
      observe: (provider, result) => results.push(`${provider} ${result}`),
    }),
  );
  const url = await listen(app, { host: "127.0.0.1", port: 0 });
  t.after(() => app.close());

  async function call(tenantId: string, path: string, options: { key?: string; method?: string; body?: string } = {}) {
    const { key = keyOf(tenantId as TenantId), method = "GET", body } = options;
    const { statusCode, headers, ...reply } = await request(`${url}/runtime/${tenantId}/integrations${path}`, {
      method,
      headers: key === "" ? {} : { authorization: `Bearer ${key}` },
      ...(body === undefined ? {} : { body }),
    });
    const text = await reply.body.text();
    return { status: statusCode, headers, text, json: JSON.parse(text) };
  }
  return { ...stage, call, results };
}

test("a runtime is given an access token with what it needs to know of it, by GET and POST, and never what renews it", async (t) => {
  const { clock, provider, call, results, ...stage } = await open(t);
  const { tenantId, ...rest } = await stage.connect();
  const got = await call(tenantId, "/loopback/token");
  const { access_token: token, ...more } = got.json;
  assert.equal(got.status, 200);
  assert.equal(got.headers["cache-control"], "no-store");
  assert.deepEqual(more, {
    token_type: "Bearer",
    expires_in: 3_600,
    expires_at: "2026-11-20T11:00:00.000Z",
    scope: "openid email mail.modify",
    account: "ann@example.com",
  });
  assert.ok(provider.holderOf(token) !== undefined);
  clock.advance(HOUR_MS - 119_000);
  const renewed = await call(tenantId, "/loopback/token", { method: "POST", body: "anything" });
  assert.equal(renewed.status, 200);
  assert.notEqual(renewed.json.access_token, token);
  assert.equal(renewed.json.expires_in, 3_600);
  assert.ok(!renewed.text.includes("refresh"));
  assert.deepEqual(results, ["loopback handed-out", "loopback handed-out"]);
  const { rows } = await database.pool.query(
    "SELECT kind, asked_by, outcome FROM connection_events WHERE tenant_id = $1 ORDER BY id",
    [tenantId],
  );
  const handedOut = { kind: "token", asked_by: "runtime", outcome: "done" };
  assert.deepEqual(rows, [handedOut, { ...handedOut, kind: "refresh" }, handedOut]);
  assert.ok(!SECRET_TEXT.test(stage.lines.join()), String(rest.provider));
});

test("without the tenant's own key nothing is told, not even whether there is such a tenant (F93)", async (t) => {
  const { call, ...stage } = await open(t);
  const [{ tenantId }, other] = [await stage.connect(), await stage.connect()];
  const unknown = "11111111-2222-4333-8444-555555555555";
  for (const path of ["", "/loopback/token", "/nothing/token"]) {
    const refusals = [
      await call(tenantId, path, { key: "" }),
      await call(tenantId, path, { key: "wrong" }),
      await call(tenantId, path, { key: `model-key-of-${other.tenantId}` }),
      await call(unknown, path, { key: `model-key-of-${tenantId}` }),
      await call("no-tenant", path),
    ];
    for (const refusal of refusals) {
      assert.equal(refusal.status, 401);
      assert.deepEqual(Object.keys(refusal.json.error), ["code", "message", "requestId"]);
      assert.deepEqual(refusal.json.error.message, "Send your model key as a bearer token.");
    }
  }
  const unread = await call(tenantId, "/loopback/token", { key: "", method: "POST", body: "not looked at" });
  assert.deepEqual([unread.status, unread.headers["connection"]], [401, "close"]);
});

test("who can't have a token is told why, and what its person should do", async (t) => {
  const { clock, provider, call, results, ...stage } = await open(t);
  const { tenantId, provider: id } = await stage.connect();
  assert.equal((await call(tenantId, "/nothing/token")).json.error.code, "provider_unknown");
  clock.advance(HOUR_MS);
  provider.failNext("token", { status: 503, headers: { "retry-after": "90" }, body: "" });
  const unavailable = await call(tenantId, "/loopback/token");
  assert.deepEqual([unavailable.status, unavailable.headers["retry-after"]], [503, "90"]);
  assert.equal(unavailable.json.error.code, "token_unavailable");
  clock.advance(90_000);
  provider.endGrantsOf("1001");
  const expired = await call(tenantId, "/loopback/token");
  assert.deepEqual([expired.status, expired.json.error.code], [409, "connection_expired"]);
  assert.match(expired.json.error.message, /^Connect Loopback again, by the link/);
  await database.db.updateTable("connections").set({ state: "revoked" }).where("tenantId", "=", tenantId).execute();
  assert.equal((await call(tenantId, "/loopback/token")).json.error.code, "connection_revoked");
  await database.db.deleteFrom("connections").where("tenantId", "=", tenantId).execute();
  const absent = await call(tenantId, "/loopback/token");
  assert.deepEqual([absent.status, absent.json.error.code], [404, "not_connected"]);
  assert.deepEqual(results, [`${id} unavailable`, `${id} gone`, `${id} gone`, `${id} gone`]);
});

test("what a runtime is told of its connections holds no secret, and says what is to be done", async (t) => {
  const { call, ...stage } = await open(t);
  const { tenantId } = await stage.connect();
  const listed = await call(tenantId, "");
  const told = {
    provider: "loopback",
    name: "Loopback",
    api: stage.provider.meUrl,
    state: "active",
    account: "ann@example.com",
  };
  assert.deepEqual(listed.json, {
    integrations: [{ ...told, scopes: ["openid", "email", "mail.modify"], action: null }],
  });
  await database.db.updateTable("connections").set({ state: "expired" }).where("tenantId", "=", tenantId).execute();
  assert.match((await call(tenantId, "")).json.integrations[0].action, /^Connect Loopback again/);
});

test("30 tokens a minute are given for each tenant and provider, by all daemons together", async (t) => {
  const { call, results, ...stage } = await open(t, { daemons: 3 });
  const [{ tenantId }, other] = [await stage.connect(), await stage.connect()];
  for (let nth = 0; nth < 10; nth += 1) assert.equal((await call(tenantId, "/loopback/token")).status, 200);
  const limited = await call(tenantId, "/loopback/token");
  assert.deepEqual([limited.status, limited.json.error.code], [429, "rate_limited"]);
  assert.ok(Number(limited.headers["retry-after"]) >= 1);
  assert.equal((await call(other.tenantId, "/loopback/token")).status, 200);
  assert.equal(results.filter((result) => result === "loopback limited").length, 1);
});
