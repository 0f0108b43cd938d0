import assert from "node:assert/strict";
import test from "node:test";
import { urgencyOf } from "./urgency.ts";

const awake = { status: "active", hibernatedAt: null } as const;
const asleep = { status: "active", hibernatedAt: new Date(0) } as const;

test("whoever is woken comes first, also in a rollout, and what only a rollout asked for comes last", () => {
  assert.equal(urgencyOf(awake, { lastSeen: "asleep", isMoving: true }), "wake");
  assert.equal(urgencyOf(asleep, { lastSeen: "asleep", isMoving: true }), "rollout");
  assert.equal(urgencyOf(awake, { lastSeen: "running", isMoving: true }), "rollout");
  assert.equal(urgencyOf(awake, { lastSeen: "starting", isMoving: true }), "rollout");
  assert.equal(urgencyOf(awake, { lastSeen: "starting", isMoving: false }), "wake");
});

test("a new tenant is provisioned, and anything else is a repair", () => {
  const provisioning = { status: "provisioning", hibernatedAt: null } as const;
  assert.equal(urgencyOf(provisioning, { lastSeen: "asleep", isMoving: false }), "provision");
  assert.equal(urgencyOf(awake, { lastSeen: "failed", isMoving: false }), "repair");
  assert.equal(urgencyOf({ ...asleep, status: "suspended" }, { lastSeen: undefined, isMoving: false }), "repair");
});
