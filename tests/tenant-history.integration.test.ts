import assert from "node:assert/strict";
import test from "node:test";
import { sql } from "kysely";
import { armScope, withArmScope } from "../src/core/adapters/runtime/azure/arm-scope.ts";
import { createJournal } from "../src/core/adapters/runtime/journal.ts";
import { addMs, fixedClock } from "../src/core/platform/clock.ts";
import { DeferredError } from "../src/core/platform/errors.ts";
import type { TenantId } from "../src/core/platform/ids.ts";
import { createLog } from "../src/core/platform/log.ts";
import { createTestDatabase } from "../src/core/testing/database.ts";
import { documentOf, expectCode, openFolder } from "./command.ts";

const CREATED = new Date("2026-03-01T12:00:00Z");

test("what was done to a runtime stands among what was decided about its tenant, in the order of time", async (t) => {
  await using database = await createTestDatabase();
  const openclaw = await openFolder(t, { DATABASE_URL: database.url });
  const made = await openclaw("tenant", "create", "alice", "--email", "alice@example.com");
  const tenantId = expectCode(made, 0).stdout.trim() as TenantId;
  expectCode(await openclaw("tenant", "update", "alice", "--tier", "plus"), 0);
  await sql`UPDATE audit_log SET at = ${CREATED}::timestamptz + (action = 'tenant.updated')::int * interval '1 hour'`.execute(
    database.db,
  );
  assert.deepEqual(documentOf(await openclaw("tenant", "show", "alice", "--json"))["steps"], []);

  const clock = fixedClock(addMs(CREATED, 60_000));
  const log = createLog("error", { write: () => true });
  const journal = createJournal({ db: database.db, clock, log, trace: withArmScope });
  await journal.step({ tenantId, step: "identity" }, async () => {
    armScope().onCall?.("3f1c");
    clock.advance(1_500);
  });
  for (let time = 0; time < 3; time += 1) {
    const busy = new DeferredError("azure_busy", "Azure is still at it.", { service: "azure", afterMs: 1 });
    await assert.rejects(journal.step({ tenantId, step: "app" }, () => Promise.reject(busy)));
    clock.advance(30_000);
  }

  const { stdout } = expectCode(await openclaw("tenant", "events", "alice"), 0);
  const lines = stdout
    .trim()
    .split("\n")
    .map((line) => line.replaceAll(/ +/g, " "));
  assert.match(lines[1] ?? "", /^2026-03-01T12:00:00Z ops tenant\.created /);
  assert.equal(lines[2], "2026-03-01T12:01:00Z runtime identity done in 1500 ms (correlation id 3f1c)");
  assert.equal(lines[3], "2026-03-01T12:01:01Z runtime app deferred 3 times in 60 s Azure is still at it.");
  assert.match(lines[4] ?? "", /^2026-03-01T13:00:00Z ops tenant\.updated /);

  const { events } = documentOf(expectCode(await openclaw("tenant", "events", "alice", "--limit", "2", "--json"), 0));
  assert.ok(Array.isArray(events));
  assert.deepEqual(
    events.map((event) => [event.kind, event.action ?? event.step]),
    [
      ["step", "app"],
      ["audit", "tenant.updated"],
    ],
  );

  const shown = expectCode(await openclaw("tenant", "show", "alice"), 0);
  assert.match(shown.stdout, /^AT +STEP +OUTCOME +WHY$/m);
  assert.match(shown.stdout, /app +deferred 3 times in 60 s +Azure is still at it\.$/m);
  const { steps } = documentOf(await openclaw("tenant", "show", "alice", "--json"));
  assert.deepEqual(steps, [
    {
      at: "2026-03-01T12:01:00.000Z",
      step: "identity",
      outcome: "done",
      times: 1,
      durationMs: 1_500,
      correlationId: "3f1c",
      detail: null,
    },
    {
      at: "2026-03-01T12:01:01.500Z",
      step: "app",
      outcome: "deferred",
      times: 3,
      durationMs: 60_000,
      correlationId: null,
      detail: "Azure is still at it.",
    },
  ]);
});
