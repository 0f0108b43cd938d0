import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createFileVault } from "../src/core/adapters/vault/file-vault.ts";
import { connectionSecretName } from "../src/core/adapters/vault/vault.ts";
import { readTokenSet, writeTokenSet } from "../src/core/integrations/token-set.ts";
import { addMs, systemClock } from "../src/core/platform/clock.ts";
import type { ProviderId } from "../src/core/platform/ids.ts";
import { until } from "../src/core/router/test-setup.ts";
import { call, type Daemon, startDaemon } from "./daemon-process.ts";
import { openIntegrationsStage } from "./integrations-stage.ts";

/** How often a daemon is killed at a random moment; more by OPENCLAW_TEST_KILLS, and then the leases of the dead run out by themselves. */
const KILLS = Number(process.env["OPENCLAW_TEST_KILLS"] ?? 2);
const IS_LONG = process.env["OPENCLAW_TEST_KILLS"] !== undefined;
const GMAIL = "gmail" as ProviderId;
const KEY = "model-key-of-alice";
/** As most providers have, for a refresher that dies between their answer and its keeping. */
const LEEWAY_MS = 60_000;

/** A provider that spends refresh tokens, and daemons that share vault and database. */
async function open(t: TestContext, leewayMs: number) {
  const stage = await openIntegrationsStage(t, { manner: "plain", rotates: true, leewayMs });
  const { database, provider, env } = stage;
  const vault = createFileVault({ folder: path.join(env.OPENCLAW_DATA_DIR, "vault"), key: undefined });
  let connections = 0;

  /** Of a tenant of its own, with an access token that is over. */
  async function connect() {
    const tenantId = await stage.addTenant(`tenant-${(connections += 1)}`, { billingExempt: true });
    const now = systemClock.now();
    const credential = { tenantId, kind: "model-key" as const, sha256: createHash("sha256").update(KEY).digest() };
    await database.db
      .insertInto("runtimeCredentials")
      .values({ ...credential, createdAt: now })
      .execute();
    const { accessToken, refreshToken = "", scopes, grant } = provider.grant();
    const over = addMs(now, -1_000);
    const grantId = randomUUID();
    const name = connectionSecretName(tenantId, GMAIL, grantId);
    const times = { obtainedAt: over.toISOString(), accessExpiresAt: over.toISOString() };
    const tokens = { fence: 0, grantId, accessToken, refreshToken, ...times };
    const row = { tenantId, provider: GMAIL, state: "active" as const, grantId, client: "google", scopes };
    await database.db
      .insertInto("connections")
      .values({
        ...row,
        stateChangedAt: over,
        connectedAt: over,
        secretVersion: await vault.set(name, writeTokenSet(tokens)),
        secretFence: 0,
        accessExpiresAt: over,
        hasRefreshToken: true,
        refreshAt: over,
      })
      .execute();
    const find = database.db.selectFrom("connections").selectAll().where("tenantId", "=", tenantId);
    return {
      grant,
      async stored() {
        const { secretVersion, state } = await find.executeTakeFirstOrThrow();
        assert.equal(state, "active");
        return readTokenSet((await vault.getVersion(name, secretVersion)) ?? "");
      },
      ask: (daemon: Daemon, signal: AbortSignal | null = null) =>
        call(`${daemon.internalUrl}/runtime/${tenantId}/integrations/gmail/token`, {
          signal,
          headers: { authorization: `Bearer ${KEY}` },
        }),
    };
  }

  return {
    provider,
    connect,
    startGateway: () => startDaemon(t, env, ["--roles", "gateway"]),
    async kill(daemon: Daemon) {
      daemon.child.kill("SIGKILL");
      await daemon.exit;
    },
    /** As if so much time had passed that the leases of the dead have run out, and they no longer count among those that live. */
    async passTime() {
      await database.pool.query("DELETE FROM daemons");
      if (!IS_LONG) await database.pool.query("UPDATE connection_leases SET lease_until = clock_timestamp()");
    },
    refreshes: () => provider.requests.filter(({ path }) => path === "/token").length,
  };
}

type Stage = Awaited<ReturnType<typeof open>>;
type Connected = Awaited<ReturnType<Stage["connect"]>>;

async function expectWorking(
  { provider }: Stage,
  { stored, grant }: Connected,
  answers: Awaited<ReturnType<Connected["ask"]>>[],
): Promise<void> {
  for (const { status, text, json } of answers) {
    assert.equal(status, 200, text);
    const me = await call(provider.meUrl, { headers: { authorization: `Bearer ${json.access_token}` } });
    assert.equal(me.status, 200, "the token works");
  }
  const { accessToken, refreshToken } = await stored();
  assert.deepEqual(new Set(answers.map(({ json }) => json.access_token)), new Set([accessToken]));
  assert.equal(grant.refreshTokens.at(-1), refreshToken, "the stored token is the newest");
}

const times = <Result>(count: number, work: () => Result): Result[] => Array.from({ length: count }, work);

test("20 who ask two daemons for one expired token at once cause one refresh, and each gets a token that works (F76)", async (t) => {
  const stage = await open(t, 0);
  const connection = await stage.connect();
  const daemons = await Promise.all([stage.startGateway(), stage.startGateway()]);
  const hold = stage.provider.hold("token", "after");
  const asked = daemons.flatMap((daemon) => times(10, () => connection.ask(daemon)));
  await hold.reached;
  hold.release();
  await expectWorking(stage, connection, await Promise.all(asked));
  assert.equal(stage.refreshes(), 1);
  assert.equal(connection.grant.reuses, 0);
});

test("with the daemon that refreshes killed before its answer comes, one more refresh gives all a token that works (F76)", async (t) => {
  const stage = await open(t, LEEWAY_MS);
  const connection = await stage.connect();
  const [dying, living] = await Promise.all([stage.startGateway(), stage.startGateway()]);
  const hold = stage.provider.hold("token", "after");
  const first = Promise.allSettled([connection.ask(dying)]);
  await hold.reached;
  const others = Promise.allSettled(times(9, () => connection.ask(dying)));
  const asked = times(10, () => connection.ask(living));
  await stage.kill(dying);
  for (const { status } of [...(await first), ...(await others)]) assert.equal(status, "rejected");
  hold.release();
  await stage.passTime();
  const again = times(5, () => connection.ask(living));
  await expectWorking(stage, connection, await Promise.all([...asked, ...again]));
  assert.equal(stage.refreshes(), 2);
});

test("a daemon that is told to stop keeps what the provider is just giving it (F76)", async (t) => {
  const stage = await open(t, 0);
  const connection = await stage.connect();
  const [stopping, living] = await Promise.all([stage.startGateway(), stage.startGateway()]);
  const hold = stage.provider.hold("token", "after");
  const leaving = new AbortController();
  const asked = connection.ask(stopping, leaving.signal).catch(() => undefined);
  await hold.reached;
  // Nobody waits for it any more.
  leaving.abort();
  await asked;
  stopping.child.kill("SIGTERM");
  const isClosed = () =>
    call(`${stopping.internalUrl}/healthz`).then(
      () => false,
      () => true,
    );
  await until(isClosed, "it takes nothing more");
  hold.release();
  assert.equal(await stopping.exit, 0);
  const { refreshToken } = await connection.stored();
  assert.equal(refreshToken, connection.grant.refreshTokens.at(-1), "it counts before anybody asks again");
  await expectWorking(stage, connection, [await connection.ask(living)]);
  assert.equal(stage.refreshes(), 1);
});

test("a daemon that stands still while the provider answers, until another has refreshed, gives what counts then (F76)", async (t) => {
  const stage = await open(t, LEEWAY_MS);
  const connection = await stage.connect();
  const [still, living] = await Promise.all([stage.startGateway(), stage.startGateway()]);
  const hold = stage.provider.hold("token", "after");
  const late = connection.ask(still);
  await hold.reached;
  still.child.kill("SIGSTOP");
  hold.release();
  await stage.passTime();
  const other = await connection.ask(living);
  still.child.kill("SIGCONT");
  await expectWorking(stage, connection, [other, await late, await connection.ask(still)]);
  assert.equal(stage.refreshes(), 2);
});

test(`after each of ${KILLS} kills at a random moment at most one more refresh was made, and a token works (F76)`, async (t) => {
  const stage = await open(t, LEEWAY_MS);
  const living = await stage.startGateway();
  for (let kill = 0; kill < KILLS; kill += 1) {
    const connection = await stage.connect();
    const dying = await stage.startGateway();
    const before = stage.refreshes();
    const lost = Promise.allSettled(times(7, () => connection.ask(dying)));
    const asked = times(7, () => connection.ask(living));
    await delay(Math.random() * 80);
    await stage.kill(dying);
    const again = (await lost).filter(({ status }) => status === "rejected").map(() => connection.ask(living));
    await stage.passTime();
    await expectWorking(stage, connection, await Promise.all([...asked, ...again]));
    assert.ok(stage.refreshes() - before <= 2, `${stage.refreshes() - before} refreshes`);
  }
});
