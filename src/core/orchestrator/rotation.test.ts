import assert from "node:assert/strict";
import test from "node:test";
import { phaseOf, restOf, type RotationPhase } from "./rotation.ts";

const at = (seconds: number) => new Date(Date.UTC(2026, 2, 1, 12, 0, seconds));

type Row = [minted: number | null, adopted: number | null, expires: number | null, now: number];
const TABLE: [row: Row, phase: RotationPhase, restMs?: number][] = [
  [[null, null, null, 0], "minting"],
  [[10, null, null, 10], "spreading", 6_000],
  [[10, null, null, 15], "spreading", 1_000],
  [[10, null, null, 16], "adopting"],
  [[10, null, null, 900], "adopting"],
  [[10, 16, null, 16], "switching"],
  [[10, 16, null, 9_000], "switching"],
  [[10, 16, 90, 30], "overlapping", 60_000],
  [[10, 16, 90, 89], "overlapping", 1_000],
  [[10, 16, 90, 90], "retiring"],
  [[10, 16, 90, 9_000], "retiring"],
];

for (const [[minted, adopted, expires, now], phase, restMs] of TABLE) {
  test(`a rotation minted at ${minted}, adopted at ${adopted}, whose old keys expire at ${expires}, is ${phase} at ${now} s`, () => {
    const [mintedAt, adoptedAt, expiresAt] = [minted, adopted, expires].map((time) =>
      time === null ? null : at(time),
    );
    const progress = { mintedAt: mintedAt ?? null, adoptedAt: adoptedAt ?? null, expiresAt: expiresAt ?? null };
    assert.equal(phaseOf(progress, at(now)), phase);
    if (restMs !== undefined) assert.equal(restOf(progress, at(now)), restMs);
  });
}
