import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import test, { after, before } from "node:test";
import { fixedClock } from "../../platform/clock.ts";
import { createDb, createPool } from "../../platform/db.ts";
import { DeferredError, UpstreamError } from "../../platform/errors.ts";
import type { TenantId } from "../../platform/ids.ts";
import { createLog } from "../../platform/log.ts";
import { createTestDatabase, type TestDatabase } from "../../testing/database.ts";
import { armScope, withArmScope } from "./azure/arm-scope.ts";
import { createJournal, type Journal, listSteps, pruneSteps } from "./journal.ts";

const START = new Date("2026-03-01T12:00:00Z");
const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;

let database: TestDatabase;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());

function open(db = database.db) {
  const clock = fixedClock(START);
  const lines: string[] = [];
  const log = createLog("error", { write: (line: string) => void lines.push(line) });
  const journal = createJournal({ db, clock, log, trace: withArmScope });
  const tenantId = randomUUID() as TenantId;
  const steps = () => listSteps(database.db, tenantId, 100);
  return { clock, journal, tenantId, steps, lines };
}

function putOff(journal: Journal, tenantId: TenantId | undefined, step: string, why: string): Promise<void> {
  const error = new DeferredError("busy", why, { service: "azure", afterMs: 1_000 });
  return assert.rejects(
    journal.step({ tenantId, step }, () => Promise.reject(error)),
    error,
  );
}

test("a step is written down with how it ended, how long it took, and the last call inside", async () => {
  const { clock, journal, tenantId, steps } = open();
  const result = await journal.step({ tenantId, step: "identity" }, async () => {
    clock.advance(1_500);
    armScope().onCall?.("call-1");
    armScope().onCall?.("call-2");
    return 42;
  });
  assert.equal(result, 42);
  const refused = new UpstreamError("azure_refused", "The app was refused.", { service: "azure", retryable: false });
  await assert.rejects(
    journal.step({ tenantId, step: "app" }, () => Promise.reject(refused)),
    refused,
  );
  const common = { times: 1, correlationId: null };
  assert.deepEqual(await steps(), [
    {
      ...common,
      at: START,
      step: "identity",
      outcome: "done",
      durationMs: 1_500,
      correlationId: "call-2",
      detail: null,
    },
    {
      ...common,
      at: new Date(START.getTime() + 1_500),
      step: "app",
      outcome: "failed",
      durationMs: 0,
      detail: "The app was refused.",
    },
  ]);
});

test("the urgency and the signal of a step are those of the calls inside", async () => {
  const { journal, tenantId } = open();
  const { signal } = new AbortController();
  await journal.step(
    { tenantId, step: "wake" },
    async () => {
      assert.equal(armScope().urgency, "wake");
      assert.equal(armScope().signal, signal);
    },
    { urgency: "wake", signal },
  );
});

test("what is put off again and again for one reason is one row, from the first time to the last", async () => {
  const { clock, journal, tenantId, steps } = open();
  const other = open().tenantId;
  for (let time = 0; time < 100; time += 1) {
    await putOff(journal, tenantId, "app", "Still at it.");
    await putOff(journal, other, "app", "Still at it.");
    await journal.step({ tenantId: undefined, step: "registry" }, async () => undefined);
    clock.advance(2_000);
  }
  await putOff(journal, tenantId, "app", "Now something else.");
  await journal.step({ tenantId, step: "app" }, async () => undefined);
  await putOff(journal, tenantId, "app", "Still at it.");
  const told = (await steps()).map(({ outcome, times, durationMs, detail }) => [outcome, times, durationMs, detail]);
  assert.deepEqual(told, [
    ["deferred", 100, 198_000, "Still at it."],
    ["deferred", 1, 0, "Now something else."],
    ["done", 1, 0, null],
    ["deferred", 1, 0, "Still at it."],
  ]);
});

test("what waits for ever begins a row an hour, so that old ones can be forgotten", async () => {
  const { clock, journal, tenantId, steps } = open();
  for (let time = 0; time < 7; time += 1) {
    await putOff(journal, tenantId, "app", "Still at it.");
    clock.advance(20 * MINUTE_MS);
  }
  assert.deepEqual(
    (await steps()).map(({ times }) => times),
    [3, 3, 1],
  );
  clock.advance(90 * DAY_MS - 60 * MINUTE_MS);
  await pruneSteps({ db: database.db, clock }, new AbortController().signal);
  assert.deepEqual(
    (await steps()).map(({ times }) => times),
    [1],
  );
});

test("steps that belong to no tenant are put off in one row, too", async () => {
  const { journal } = open();
  for (let time = 0; time < 3; time += 1) await putOff(journal, undefined, "environment storage", "Still at it.");
  const { rows } = await database.pool.query(
    "SELECT times FROM runtime_steps WHERE tenant_id IS NULL AND step = 'environment storage'",
  );
  assert.deepEqual(rows, [{ times: 3 }]);
});

test("what the signal breaks off has not failed", async () => {
  const { journal, tenantId, steps } = open();
  const stop = new AbortController();
  const work = async () => {
    stop.abort(new Error("the daemon stops"));
    stop.signal.throwIfAborted();
  };
  await assert.rejects(journal.step({ tenantId, step: "app" }, work, { signal: stop.signal }), /the daemon stops/);
  const [step] = await steps();
  assert.deepEqual([step?.outcome, step?.detail], ["deferred", "broken off, to be begun again"]);
});

test("reasons hold no secrets, no line breaks, and no novels", async () => {
  const { journal, tenantId, steps } = open();
  const told = `GET https://host.example/x?sig=abc%3D&se=2026 with Bearer eyJhbGciOi.eyJzdWIi.c2ln\nfailed ${"x".repeat(900)}`;
  await assert.rejects(journal.step({ tenantId, step: "app" }, () => Promise.reject(new Error(told))));
  const [step] = await steps();
  assert.ok(step?.detail !== undefined && step.detail !== null);
  assert.doesNotMatch(step.detail, /abc|eyJ|\n/);
  assert.equal(step.detail.length, 500);
});

test("a step counts though it can't be written down, which is said in the log", async () => {
  const pool = createPool({
    url: "postgres://127.0.0.1:1/none",
    max: 1,
    applicationName: "x",
    onIdleError: () => undefined,
  });
  const { journal, tenantId, lines } = open(createDb(pool));
  assert.equal(await journal.step({ tenantId, step: "app" }, async () => "done"), "done");
  await putOff(journal, tenantId, "app", "Still at it.");
  assert.equal(lines.filter((line) => line.includes("could not be written")).length, 2);
  await pool.end();
});
