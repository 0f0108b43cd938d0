import assert from "node:assert/strict";
import test from "node:test";
import { addMs } from "../platform/clock.ts";
import { mayBeTriedAt, planRefresh, planRetry, planWait } from "./backoff.ts";

const NOW = new Date("2026-11-20T10:00:00Z");
const SECOND = 1_000;
const MINUTE = 60 * SECOND;

/** In seconds from now. */
const from = (date: Date | null) => (date === null ? null : (date.getTime() - NOW.getTime()) / SECOND);

test("a token is renewed 15 minutes before its end, but not in the first half of its life, nor in the first minute; one of no known end, as if it held for an hour", () => {
  const cases: [lifeMs: number | null, afterSeconds: number][] = [
    [60 * MINUTE, 45 * 60],
    [24 * 60 * MINUTE, (24 * 60 - 15) * 60],
    [20 * MINUTE, 10 * 60],
    [100 * SECOND, 60],
    [SECOND, 60],
    [-5 * MINUTE, 60],
    [null, 45 * 60],
  ];
  for (const [lifeMs, after] of cases)
    assert.equal(from(planRefresh(NOW, lifeMs === null ? null : addMs(NOW, lifeMs))), after);
});

test("failures in a row wait from 30 s twice as long each, half an hour at most, and up to half of that less by chance", () => {
  const waits = (random: number) =>
    [1, 2, 3, 6, 7, 8, 5_000].map((attempts) => from(planRetry(NOW, { attempts, waitUntil: null }, () => random)));
  assert.deepEqual(waits(1), [30, 60, 120, 960, 1_800, 1_800, 1_800]);
  assert.deepEqual(waits(0), [15, 30, 60, 480, 900, 900, 900]);
});

test("what a provider wishes is kept, for an hour at most", () => {
  assert.equal(planWait(NOW, undefined), null);
  assert.deepEqual(
    [90 * SECOND, 48 * 60 * MINUTE, -5].map((ms) => from(planWait(NOW, ms))),
    [90, 3_600, 0],
  );
  const waitUntil = addMs(NOW, 10 * MINUTE);
  assert.equal(from(planRetry(NOW, { attempts: 1, waitUntil }, () => 1)), 600);
  assert.equal(from(planRetry(NOW, { attempts: 7, waitUntil }, () => 1)), 1_800);
  assert.deepEqual([from(mayBeTriedAt(NOW, null)), from(mayBeTriedAt(NOW, waitUntil))], [15, 600]);
});
