import assert from "node:assert/strict";
import test from "node:test";
import { fixedClock } from "../platform/clock.ts";
import { createTestDatabase } from "../testing/database.ts";
import { claimNotice, pruneNotices } from "./notices.ts";

const HOUR_MS = 3_600_000;
const YEARS_MS = 20 * 365 * 24 * HOUR_MS;

test("notices are forgotten after a day, but for what is said only once in a chat", async () => {
  await using database = await createTestDatabase();
  const clock = fixedClock(new Date("2026-03-01T12:00:00Z"));
  const ctx = { db: database.db, clock };
  const signal = new AbortController().signal;
  for (const topic of ["expired:17", "link:18", "onboarding"]) assert.ok(await claimNotice(ctx, 7, topic, HOUR_MS));
  assert.ok(await claimNotice(ctx, -100, "privateOnly", YEARS_MS));
  clock.advance(24 * HOUR_MS);
  await pruneNotices(ctx, signal);
  assert.ok(await claimNotice(ctx, 8, "onboarding", HOUR_MS));
  clock.advance(1);
  await pruneNotices(ctx, signal);
  const { rows } = await database.pool.query("SELECT topic FROM telegram_notices ORDER BY topic");
  assert.deepEqual(
    rows.map(({ topic }) => topic),
    ["onboarding", "privateOnly"],
  );
  assert.equal(await claimNotice(ctx, 8, "onboarding", HOUR_MS), false);
  assert.equal(await claimNotice(ctx, -100, "privateOnly", YEARS_MS), false);
});
