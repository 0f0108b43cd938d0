import assert from "node:assert/strict";
import test from "node:test";
import { type DecisionFacts, decide } from "./decision.ts";
import { readFacts } from "./update.ts";

const now = new Date("2026-11-22T12:00:00Z");
const ago = (ms: number) => new Date(now.getTime() - ms);
const update = (fields: Record<string, unknown>) => readFacts({ updateId: 1, fields });
const message = update({ message: { text: "hi", from: { id: 42 }, chat: { id: 42, type: "private" } } });
const tap = update({ callback_query: { id: "q", from: { id: 42 }, message: { chat: { id: 42, type: "private" } } } });
const reaction = update({ message_reaction: { user: { id: 42 }, chat: { id: 42, type: "private" } } });

const activeTenant = {
  status: "active",
  suspendedBy: null,
  telegramUserId: 42,
  entitled: true,
  awaitingPayment: false,
  spendingStop: undefined,
} satisfies DecisionFacts["tenant"];
const active: DecisionFacts = {
  update: message,
  acceptedAt: ago(1_000),
  now,
  tenant: activeTenant,
  runtime: { address: "http://127.0.0.1:1", allowedUserId: 42 },
};
const tenant = (change: Partial<NonNullable<DecisionFacts["tenant"]>>): DecisionFacts["tenant"] => ({
  ...activeTenant,
  ...change,
});

test("an active tenant's update is delivered to its runtime", () => {
  assert.deepEqual(decide(active), { kind: "deliver", address: "http://127.0.0.1:1" });
});

test("what others say to a business account or beside a guest bot never reaches their own assistant", () => {
  for (const kind of ["business_message", "edited_business_message", "deleted_business_messages", "guest_message"]) {
    const foreign = update({ [kind]: { text: "/start tok", from: { id: 42 }, chat: { id: 42, type: "private" } } });
    assert.equal(decide({ ...active, update: foreign }).kind, "ignore", kind);
  }
});

test("/start with a token links, whatever the chat's state", () => {
  const start = update({ message: { text: "/start tok", from: { id: 42 }, chat: { id: 42, type: "private" } } });
  assert.deepEqual(decide({ ...active, update: start, tenant: undefined }), { kind: "link", token: "tok" });
});

test("/start in a group links nothing (F25)", () => {
  const start = update({ message: { text: "/start tok", from: { id: 42 }, chat: { id: -7, type: "group" } } });
  assert.deepEqual(decide({ ...active, update: start, tenant: undefined }), { kind: "answer", topic: "privateOnly" });
});

test("an unknown chat is told how to begin; what nobody waits for is let be", () => {
  assert.deepEqual(decide({ ...active, tenant: undefined }), { kind: "answer", topic: "onboarding" });
  assert.equal(decide({ ...active, update: reaction, tenant: undefined }).kind, "ignore");
});

test("the first message while the runtime is being built is held (F16)", () => {
  assert.deepEqual(decide({ ...active, tenant: tenant({ status: "provisioning" }), runtime: undefined }), {
    kind: "hold",
    notice: "preparing",
  });
});

test("unpaid is told so at once; a payment under way holds", () => {
  assert.deepEqual(decide({ ...active, tenant: tenant({ status: "pending", entitled: false }) }), {
    kind: "answer",
    topic: "unpaid",
  });
  const paying = tenant({ status: "pending", entitled: false, awaitingPayment: true });
  assert.deepEqual(decide({ ...active, tenant: paying }), { kind: "hold", notice: "preparing" });
});

test("a suspended person is told why, by message and by button alike (F20, F70)", () => {
  const suspended = tenant({ status: "suspended", suspendedBy: "billing", entitled: false });
  for (const each of [message, tap]) {
    assert.deepEqual(decide({ ...active, update: each, tenant: suspended }), { kind: "answer", topic: "suspended" });
  }
  const byOperator = tenant({ status: "suspended", suspendedBy: "operator" });
  assert.deepEqual(decide({ ...active, tenant: byOperator }), { kind: "answer", topic: "suspendedByOperator" });
});

test("who has used a budget up is told so instead of being passed on in silence, by message and by button (F17, F20)", () => {
  for (const spendingStop of ["usedUp", "modelsStopped"] as const) {
    const stopped = tenant({ spendingStop });
    for (const each of [message, tap])
      assert.deepEqual(decide({ ...active, update: each, tenant: stopped }), { kind: "answer", topic: spendingStop });
    assert.equal(decide({ ...active, update: reaction, tenant: stopped }).kind, "ignore");
  }
  const unpaid = tenant({ spendingStop: "usedUp", entitled: false });
  assert.deepEqual(decide({ ...active, tenant: unpaid }), { kind: "answer", topic: "suspended" });
});

test("an active tenant whose trial has just run out is not served until the sweep notices (F55)", () => {
  assert.deepEqual(decide({ ...active, tenant: tenant({ entitled: false }) }), { kind: "answer", topic: "suspended" });
});

test("a runtime whose configuration does not name the sender yet is not trusted with the message", () => {
  assert.deepEqual(decide({ ...active, runtime: { address: "http://127.0.0.1:1", allowedUserId: null } }), {
    kind: "hold",
    notice: "waking",
  });
});

test("somebody else in the chat is not passed off as the subscriber", () => {
  const stranger = update({ message: { text: "hi", from: { id: 43 }, chat: { id: 42, type: "private" } } });
  assert.equal(decide({ ...active, update: stranger }).kind, "ignore");
});

test("after ten minutes nothing old is delivered any more (F13)", () => {
  assert.equal(decide({ ...active, acceptedAt: ago(10 * 60_000 + 1) }).kind, "expire");
  assert.equal(decide({ ...active, acceptedAt: ago(10 * 60_000 - 1) }).kind, "deliver");
  assert.equal(decide({ ...active, runtime: undefined, acceptedAt: ago(10 * 60_000 + 1) }).kind, "expire");
});

test("while provisioning, the provisioning deadline rules, not the ten minutes", () => {
  const provisioning = { ...active, tenant: tenant({ status: "provisioning" }), acceptedAt: ago(20 * 60_000) };
  assert.equal(decide(provisioning).kind, "hold");
});
