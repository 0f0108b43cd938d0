import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { sql } from "kysely";
import { addMs, fixedClock } from "../platform/clock.ts";
import type { ProviderId } from "../platform/ids.ts";
import { createLog } from "../platform/log.ts";
import { createTenant } from "../tenants/tenants.ts";
import { createTestDatabase } from "../testing/database.ts";
import { type Held, tryLease, withLease } from "./lease.ts";
import { renewLease } from "./lease-store.ts";
import * as store from "./store.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());

const GMAIL = "gmail" as ProviderId;
const clock = fixedClock(new Date("2026-11-20T10:00:00Z"));
const AT_ONCE = { patienceMs: 0 };
const LONG = { patienceMs: 10_000 };

async function open({ connected = true } = {}) {
  const { db } = database;
  const slug = `t-${randomUUID().slice(0, 8)}`;
  const ctx = { db, clock, actor: { name: "test" }, log: createLog("error", { write: () => true }) };
  const { tenant } = await createTenant(ctx, { slug, email: `${slug}@example.com`, billingExempt: true });
  const key = { tenantId: tenant.id, provider: GMAIL };
  if (connected) await store.replace(db, { ...key, ...row("1") });
  /** As if whoever has the lease had been silent for its time. */
  const runOut = () =>
    db
      .updateTable("connectionLeases")
      .set({ leaseUntil: addMs(new Date(), -3_600_000) })
      .where("tenantId", "=", tenant.id)
      .execute();
  const isHeld = async () => {
    const now = sql<Date>`clock_timestamp()`;
    const leases = db.selectFrom("connectionLeases").where("tenantId", "=", tenant.id).where("leaseUntil", ">", now);
    return (await leases.select("fence").execute()).length === 1;
  };
  return { ctx, key, runOut, isHeld, version: async () => (await store.find(db, key))?.secretVersion };
}

function row(secretVersion: string) {
  const now = clock.now();
  return {
    state: "active" as const,
    stateChangedAt: now,
    grantId: randomUUID(),
    client: "google",
    scopes: ["mail"],
    connectedAt: now,
    secretVersion,
    secretFence: 0,
    hasRefreshToken: true,
  };
}

/** Takes the lease and keeps it until told. */
async function holdOn(given: Awaited<ReturnType<typeof open>>) {
  const taken = Promise.withResolvers<Held>();
  const released = Promise.withResolvers<void>();
  const ended = withLease(given.ctx, given.key, AT_ONCE, async (held) => {
    taken.resolve(held);
    await released.promise;
  });
  const end = async () => {
    released.resolve();
    await ended;
  };
  return { held: await taken.promise, end };
}

test("of many at once one has the lease at any time, and every one gets its turn with a fence of its own (F76)", async () => {
  const { ctx, key } = await open();
  let holders = 0;
  const fences = await Promise.all(
    Array.from({ length: 12 }, () =>
      withLease(ctx, key, LONG, async ({ fence }) => {
        holders += 1;
        assert.equal(holders, 1);
        await database.db.selectFrom("tenants").select("id").execute();
        holders -= 1;
        return fence;
      }),
    ),
  );
  assert.deepEqual(
    fences.toSorted((a, b) => a - b),
    Array.from({ length: 12 }, (_, nth) => nth + 1),
  );
});

test("who does not get it in time is told, and who is aborted while waiting stops", async () => {
  const given = await open();
  const { end } = await holdOn(given);
  await assert.rejects(
    withLease(given.ctx, given.key, AT_ONCE, async () => undefined),
    { code: "connection_busy" },
  );
  const signal = AbortSignal.timeout(20);
  await assert.rejects(
    withLease(given.ctx, given.key, { ...LONG, signal }, async () => undefined),
    { name: "TimeoutError" },
  );
  assert.equal(await tryLease(given.ctx, given.key, async () => ({})), undefined);
  await end();
  assert.deepEqual(await tryLease(given.ctx, given.key, async () => ({})), {});
});

test("who was overtaken changes nothing, and takes nothing away from who came after (F76)", async () => {
  const given = await open();
  const late = await holdOn(given);
  await given.runOut();
  const next = await holdOn(given);
  assert.equal(next.held.fence, late.held.fence + 1);
  let alsoDone = 0;
  const also = async () => {
    alsoDone += 1;
  };
  assert.equal(await late.held.secure(), false);
  assert.equal(await late.held.promote({ secretVersion: "late" }, also), false);
  assert.equal(await late.held.establish(row("late"), also), false);
  await late.end();
  assert.equal(await tryLease(given.ctx, given.key, async () => ({})), undefined);
  assert.equal(await next.held.promote({ secretVersion: "next" }, also), true);
  assert.equal(await given.version(), "next");
  assert.equal(alsoDone, 1);
  await next.end();
});

test("a lease that ran out, and that nobody took, is as good as before", async () => {
  const given = await open();
  const { held, end } = await holdOn(given);
  await given.runOut();
  assert.equal(await renewLease(database.db, given.key, held.fence), true);
  await given.runOut();
  assert.equal(await held.promote({ secretVersion: "2" }), true);
  await end();
});

test("a lease is renewed for as long as the work goes on", async (t) => {
  const given = await open();
  t.mock.timers.enable({ apis: ["setTimeout"] });
  await withLease(given.ctx, given.key, AT_ONCE, async () => {
    for (let nth = 0; nth < 2; nth += 1) {
      await given.runOut();
      t.mock.timers.tick(5_000);
      while (!(await given.isHeld()));
    }
  });
  assert.equal(await given.isHeld(), false);
});

test("who is told too late that the lease is secure asks again (F76)", async (t) => {
  const given = await open();
  const monotonic = performance.now.bind(performance);
  let stoppedMs = 0;
  t.mock.method(performance, "now", () => monotonic() + stoppedMs);
  let isAnswerHeld = false;
  /** The process is stopped when the database has answered, and wakes up when another has the lease. */
  const db = given.ctx.db.withPlugin({
    transformQuery: ({ node }) => node,
    async transformResult({ result }) {
      if (!isAnswerHeld) return result;
      isAnswerHeld = false;
      await given.runOut();
      const next = await holdOn(given);
      t.after(next.end);
      stoppedMs += 20_000;
      return result;
    },
  });
  await withLease({ ...given.ctx, db }, given.key, AT_ONCE, async (held) => {
    assert.equal(await held.secure(), true);
    isAnswerHeld = true;
    assert.equal(await held.secure(), false);
  });
});

test("what is to be done with a change is undone with it", async () => {
  const given = await open();
  const fail = async () => {
    throw new Error("no");
  };
  await withLease(given.ctx, given.key, AT_ONCE, async (held) => {
    await assert.rejects(held.promote({ secretVersion: "2" }, fail), /no/);
    assert.equal(await held.secure(), true);
  });
  assert.equal(await given.version(), "1");
});

test("a connection that is not there yet is made by one of two who try at once", async () => {
  const given = await open({ connected: false });
  const first = await holdOn(given);
  assert.equal(first.held.connection, undefined);
  assert.equal(await first.held.promote({ secretVersion: "1" }), false);
  await given.runOut();
  const second = await holdOn(given);
  assert.equal(await second.held.establish(row("second")), true);
  assert.equal(await first.held.establish(row("first")), false);
  assert.equal(await given.version(), "second");
  await Promise.all([first.end(), second.end()]);
  await withLease(given.ctx, given.key, AT_ONCE, async (held) => {
    assert.equal(held.connection?.secretVersion, "second");
    assert.equal(await held.establish(row("third")), true);
  });
  assert.equal(await given.version(), "third");
});

test("a fence never comes again, also when the connection went in the meantime", async () => {
  const given = await open();
  const { held, end } = await holdOn(given);
  await database.db.deleteFrom("connections").where("tenantId", "=", given.key.tenantId).execute();
  assert.equal(await held.promote({ secretVersion: "2" }), false);
  await end();
  await withLease(given.ctx, given.key, AT_ONCE, async ({ fence }) => assert.equal(fence, held.fence + 1));
});
