import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import test from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { sql } from "kysely";
import { request } from "undici";
import { settleLostCalls } from "../src/core/billing/billing.ts";
import { openBillingStage } from "../src/core/billing/test-setup.ts";
import { addMs, systemClock } from "../src/core/platform/clock.ts";
import { createLog } from "../src/core/platform/log.ts";
import { startModelServer } from "../src/core/testing/fakes/model-server.ts";
import { startDaemon } from "./daemon-process.ts";

const KILLS = Number(process.env["OPENCLAW_TEST_KILLS"] ?? 4);
const CALLS = 60;
/** Enough that calls get through after every kill, and not all that are made at once. */
const BUDGET = 30_000 + 15_000 * KILLS;
const KEY = "alice-key";
const MODEL = "claude-haiku-4-5";

type Sums = { calls: number; tokens: number; cost: number };

test("after kill -9 at random moments no reservation stays, what was answered was recorded, and sums and budget hold", async (t) => {
  const stage = await openBillingStage();
  t.after(() => stage[Symbol.asyncDispose]());
  const model = await startModelServer({ apiKey: "operator", beforeEvent: () => delay(Math.random() * 10) });
  t.after(() => model.close());
  const tenantId = await stage.newTenant();
  await stage.db
    .updateTable("tenants")
    .set({ status: "active", billingExempt: true })
    .where("id", "=", tenantId)
    .execute();
  const sha256 = createHash("sha256").update(KEY).digest();
  const credential = { tenantId, kind: "model-key" as const, sha256, createdAt: systemClock.now() };
  await stage.db.insertInto("runtimeCredentials").values(credential).execute();
  const budget = { tenantId, tokensPerMonth: BUDGET, updatedAt: systemClock.now() };
  await stage.db.insertInto("tenantBudgets").values(budget).execute();
  const daemonEnv = {
    DATABASE_URL: stage.url,
    ANTHROPIC_API_KEY: "operator",
    ANTHROPIC_BASE_URL: model.url,
  };
  const ctx = {
    pool: stage.pool,
    clock: { now: () => addMs(systemClock.now(), 61_000) },
    log: createLog("error", { write: () => true }),
  };

  let answered = 0;
  for (let kill = 0; kill < KILLS; kill += 1) {
    const daemon = await startDaemon(t, daemonEnv, ["--roles", "gateway"]);
    const url = `${daemon.internalUrl}/runtime/${tenantId}/model/v1/messages`;
    const calls = Array.from({ length: CALLS }, async () => {
      const body = JSON.stringify({
        model: MODEL,
        max_tokens: 200,
        stream: true,
        messages: [{ role: "user", content: "one two three four five six seven eight" }],
      });
      const reply = await request(url, { method: "POST", headers: { "x-api-key": KEY }, body });
      const text = await reply.body.text();
      assert.ok(reply.statusCode === 200 || reply.statusCode === 429, text);
      if (reply.statusCode === 200 && text.includes("message_stop")) answered += 1;
    });
    const ended = Promise.allSettled(calls);
    // A moment of any of the steps: reserving, waiting for the model, streaming, settling.
    await delay(Math.random() * 150);
    daemon.child.kill("SIGKILL");
    await daemon.exit;
    for (const end of await ended)
      if (end.status === "rejected" && end.reason instanceof assert.AssertionError) throw end.reason;
    await stage.pool.query("UPDATE daemons SET seen_at = now() - interval '1 minute'");
    await settleLostCalls(ctx, new AbortController().signal);

    const { rows } = await sql<Sums>`
      SELECT count(*) AS calls, coalesce(sum(input_tokens + output_tokens + cache_write_tokens), 0)::bigint AS tokens,
        coalesce(sum(cost_micro_usd), 0)::bigint AS cost FROM usage_records
      UNION ALL SELECT coalesce(sum(calls), 0)::bigint, coalesce(sum(tokens), 0)::bigint, coalesce(sum(cost_micro_usd), 0)::bigint FROM usage_months
      UNION ALL SELECT coalesce(sum(calls), 0)::bigint, coalesce(sum(tokens), 0)::bigint, coalesce(sum(cost_micro_usd), 0)::bigint FROM fleet_usage_months`.execute(
      stage.db,
    );
    const [records, ...counters] = rows;
    assert.ok(records !== undefined);
    for (const counter of counters) assert.deepEqual(counter, records);
    assert.ok(records.tokens <= BUDGET, `${records.tokens} tokens of ${BUDGET}`);
    const open = await stage.db.selectFrom("usageReservations").select("id").execute();
    assert.deepEqual(open, []);
    const measured = await stage.db.selectFrom("usageRecords").select("id").where("isAssumed", "=", false).execute();
    assert.ok(measured.length >= answered, `${measured.length} recorded of ${answered} answered`);
  }
});
