import assert from "node:assert/strict";
import test from "node:test";
import { render } from "ink-testing-library";
import type { RolloutProgress } from "../../core/orchestrator/orchestrator.ts";
import { addMs } from "../../core/platform/clock.ts";
import type { ReleaseId, RolloutId } from "../../core/platform/ids.ts";
import { RolloutView } from "./rollout.tsx";

const START = new Date("2026-03-01T12:00:00Z");
const NONE = {
  pending: 0,
  moving: 0,
  healthy: 0,
  "moved-asleep": 0,
  "rolling-back": 0,
  "rolled-back": 0,
  failed: 0,
  skipped: 0,
};

const RUNNING: RolloutProgress = {
  id: 4 as RolloutId,
  kind: "rollout",
  status: "running",
  reason: null,
  release: {
    id: 3 as ReleaseId,
    image: "ghcr.io/openclaw/openclaw:2026.10.1",
    modelsByTier: { basic: ["claude-haiku-4-5"], plus: ["claude-sonnet-4-5"] },
    createdAt: START,
    createdBy: "ops",
    currentAt: null,
    failedAt: null,
    failedReason: null,
  },
  selector: {},
  startedAt: START,
  startedBy: "ops",
  endedAt: null,
  parallel: 10,
  maxFailures: 3,
  deadlineSeconds: 600,
  tenants: 20,
  failures: 1,
  toGoBack: 0,
  counts: { ...NONE, healthy: 8, "moved-asleep": 1, "rolled-back": 1, moving: 2, pending: 8 },
  cohorts: [
    { size: "1", tenants: 1, counts: { ...NONE, healthy: 1 } },
    {
      size: "100%",
      tenants: 19,
      counts: { ...NONE, healthy: 7, "moved-asleep": 1, "rolled-back": 1, moving: 2, pending: 8 },
    },
  ],
  underWay: [
    { tenant: "alice", state: "moving", since: addMs(START, 90_000), trouble: "its webhook listener is not up yet" },
    { tenant: "bob", state: "moving", since: addMs(START, 100_000), trouble: null },
  ],
  problems: [{ tenant: "carol", state: "rolled-back", at: START, reason: "no such image\u001b[2J" }],
  perMinute: 5,
  elsewhere: 10,
};

function frameOf(progress: RolloutProgress): string {
  const view = render(<RolloutView progress={progress} now={addMs(START, 120_000)} />);
  const frame = view.lastFrame() ?? "";
  view.unmount();
  return frame;
}

test("a rollout shows how far it is, cohort by cohort, whom it waits for, and who failed and why", () => {
  const frame = frameOf(RUNNING);
  assert.match(frame, /rollout 4: release 3, ghcr\.io\/openclaw\/openclaw:2026\.10\.1 running/);
  assert.match(frame, /█{15}░{15} 10 of 20, 5 a minute, 2m/);
  assert.match(frame, /cohort 1 +to 1 +█{30} 1 healthy/);
  assert.match(frame, /cohort 2 +to 100% +█{14}░{16} 7 healthy/);
  assert.match(frame, /waits for alice \(30s: its webhook listener is not up yet\), bob \(20s\)/);
  assert.match(frame, /1 failed, 3 halt it/);
  assert.match(frame, /carol rolled-back: no such image/);
});

test("what strangers wrote does not steer the terminal", () => {
  const frame = frameOf({
    ...RUNNING,
    underWay: [{ tenant: "bob", state: "moving", since: START, trouble: "\u001b[2Jx" }],
  });
  assert.ok(!frame.includes("\u001b[2J"), frame);
});

test("halted, it says why and what goes on with it; with nobody to move, it is done", () => {
  const counts = { ...NONE, healthy: 1 };
  const halted = frameOf({ ...RUNNING, status: "halted", reason: "too many failed", counts, underWay: [] });
  assert.match(halted, /halted: too many failed/);
  assert.match(halted, /waits for openclaw fleet rollout resume --max-failures …, or abort/);
  const empty = { tenants: 0, counts: NONE, cohorts: [], underWay: [], problems: [], failures: 0 };
  assert.match(frameOf({ ...RUNNING, ...empty, status: "finished" }), /█{30} 0 of 0.*\n *nobody to move/);
});
