import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import test, { type TestContext } from "node:test";
import { sql } from "kysely";
import { connectionSecretName, type Vault } from "../adapters/vault/vault.ts";
import { addMs } from "../platform/clock.ts";
import type { TenantId } from "../platform/ids.ts";
import { createTestDatabase } from "../testing/database.ts";
import { sweepConnections } from "./sweep.ts";
import { HOUR_MS, LOOPBACK, NEVER, openStage, type Stage } from "./test-setup.ts";
import { writeTokenSet } from "./token-set.ts";

/** How many connections; 10,000 by OPENCLAW_TEST_CONNECTIONS, and what each size costs is told. */
const CONNECTIONS = Number(process.env["OPENCLAW_TEST_CONNECTIONS"] ?? 120);
/** Below that, what is measured is noise. */
const IS_MEASURED = CONNECTIONS >= 4_000;
const SIZES = (IS_MEASURED ? [4, 2, 1] : [1]).map((part) => CONNECTIONS / part);
const AT_ONCE = 32;
const MINUTE_MS = 60_000;
/** The long form takes minutes, more beside other work. */
const TIMEOUT_MS = 30 * 60_000;
const MINUTES = 60;
/** What a sweep of a minute begins at most: 40 s of 25 a second. */
const PER_SWEEP = 1_000;
/** As fast as it goes: a simulated minute need not last one. */
const UNPACED = { startsPerSecond: Number.POSITIVE_INFINITY, forMs: 600_000, atOnce: 16 };

test(
  `for an hour ${CONNECTIONS} connections stay fresh, within what a Key Vault takes`,
  { timeout: TIMEOUT_MS },
  async (t) => {
    const costs: { size: number; msPerRefresh: number; idleSweepMs: number }[] = [];
    for (const size of SIZES) costs.push(await liveAnHour(t, size));
    for (const cost of costs) t.diagnostic(JSON.stringify(cost));
  },
);

async function liveAnHour(t: TestContext, size: number) {
  await using database = await createTestDatabase();
  const stage = await openStage(t, database.db);
  const { clock } = stage;
  const calls = { reads: 0, writes: 0 };
  const ctx = stage.worker((vault) => counted(vault, calls));
  await connectMany(stage, size);
  let renewed = 0;
  let mostInAMinute = 0;
  const begun = performance.now();
  for (let minute = 0; minute < MINUTES; minute += 1) {
    const counts = await sweepConnections(ctx, NEVER, UNPACED);
    assert.deepEqual({ ...counts, renewed: 0 }, { renewed: 0, failed: 0, ended: 0, untouched: 0, isComplete: true });
    renewed += counts.renewed;
    mostInAMinute = Math.max(mostInAMinute, counts.renewed);
    clock.advance(MINUTE_MS);
    const { rows } = await database.pool.query<{ ends: Date }>(
      "SELECT min(access_expires_at) AS ends FROM connections",
    );
    assert.ok((rows[0]?.ends.getTime() ?? 0) - clock.now().getTime() >= 13 * MINUTE_MS, "all hold for a while still");
  }
  const msPerRefresh = (performance.now() - begun) / renewed;
  // Each once in 45 minutes.
  assert.ok(renewed >= size && renewed <= 1.5 * size, `${renewed}`);
  assert.ok(mostInAMinute <= PER_SWEEP * (size / 10_000), `${mostInAMinute} in a minute`);
  assert.deepEqual(calls, { reads: 2 * renewed, writes: renewed });
  assert.equal(stage.refreshes(), renewed);
  await database.pool.query("UPDATE connections SET refresh_at = $1", [addMs(clock.now(), HOUR_MS)]);
  const idle = performance.now();
  await sweepConnections(ctx, NEVER, UNPACED);
  const idleSweepMs = performance.now() - idle;
  return { size, renewed, mostInAMinute, msPerRefresh, idleSweepMs, perSecond: 1_000 / msPerRefresh };
}

function counted(vault: Vault, calls: { reads: number; writes: number }): Vault {
  const read = <Args extends unknown[], Result>(work: (...args: Args) => Result) => {
    return (...args: Args): Result => {
      calls.reads += 1;
      return work(...args);
    };
  };
  return {
    ...vault,
    getNewest: read(vault.getNewest),
    getVersion: read(vault.getVersion),
    set(...args) {
      calls.writes += 1;
      return vault.set(...args);
    },
  };
}

/** Of as many tenants, connected evenly over the last 45 minutes. */
async function connectMany({ ctx, clock, provider }: Stage, size: number): Promise<void> {
  const now = clock.now();
  const tenants = Array.from({ length: size }, () => randomUUID() as TenantId);
  await sql`
    INSERT INTO tenants (id, stamp_id, slug, display_name, email, status, status_changed_at, created_at, updated_at)
    SELECT id, 'default', 't-' || nth, 'Tenant', nth || '@example.com', 'active', ${now}, ${now}, ${now}
    FROM unnest(${tenants}::uuid[]) WITH ORDINALITY AS tenant (id, nth)`.execute(ctx.db);
  const queue = tenants.entries();
  const connectOneByOne = async (): Promise<void> => {
    for (const [nth, tenantId] of queue) {
      const connectedAt = addMs(now, -((nth + 0.5) / size) * 45 * MINUTE_MS);
      const { accessToken, refreshToken = "", scopes } = provider.grant();
      const accessExpiresAt = addMs(connectedAt, HOUR_MS);
      const ends = { obtainedAt: connectedAt.toISOString(), accessExpiresAt: accessExpiresAt.toISOString() };
      const tokens = { fence: 0, grantId: randomUUID(), accessToken, ...ends };
      const text = writeTokenSet({ ...tokens, refreshToken });
      const secretVersion = await ctx.vault.set(connectionSecretName(tenantId, LOOPBACK, tokens.grantId), text);
      const row = {
        tenantId,
        provider: LOOPBACK,
        state: "active" as const,
        grantId: tokens.grantId,
        client: "loopback",
      };
      const times = {
        stateChangedAt: connectedAt,
        connectedAt,
        accessExpiresAt,
        refreshAt: addMs(connectedAt, 45 * MINUTE_MS),
      };
      const secret = { secretVersion, secretFence: 0, hasRefreshToken: true };
      await ctx.db
        .insertInto("connections")
        .values({ ...row, ...times, ...secret, scopes })
        .execute();
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, connectOneByOne));
  await sql`ANALYZE`.execute(ctx.db);
}
