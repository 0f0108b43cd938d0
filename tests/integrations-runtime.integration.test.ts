import assert from "node:assert/strict";
import test from "node:test";
import { expectCode } from "./command.ts";
import { call, type Daemon } from "./daemon-process.ts";
import { openIntegrationsStage } from "./integrations-stage.ts";

const CHAT = 111_222_333;

test("a runtime uses what its person connects while it runs, and not what was disconnected (F78)", async (t) => {
  const stage = await openIntegrationsStage(t);
  const { openclaw, telegram } = stage;
  const daemon = await stage.startDaemon();
  await daemon.saw("working");
  await stage.addTenant("alice", { telegramChatId: CHAT, billingExempt: true });
  expectCode(await openclaw("tenant", "provision", "alice", "--wait"), 0);
  const before = await runtimeOf(stage);
  let updates = 0;
  const answer = async (question: string, accepts: RegExp) => {
    await write(daemon, ++updates, question);
    await telegram.waitFor(({ method, params }) => method === "sendMessage" && accepts.test(String(params["text"])));
  };

  await answer("integrations", /^No account is connected\./);
  await answer("token gmail", /^Gmail is not connected\./);
  await stage.connect("alice", "gmail");
  await answer("integrations", /^gmail: active, ann@example\.com\n/);
  await answer("token gmail", /^There is a token for gmail, for 3\d\d\d s\./);
  expectCode(await openclaw("integration", "disconnect", "alice", "gmail", "--confirm", "alice"), 0);
  await answer("token gmail", /^Gmail was disconnected\./);
  assert.deepEqual(await runtimeOf(stage), before, "it is the same runtime, with the same configuration");
  expectCode(await openclaw("tenant", "deprovision", "alice", "--confirm", "alice", "--wait"), 0);
});

async function runtimeOf({ database }: Awaited<ReturnType<typeof openIntegrationsStage>>): Promise<unknown> {
  return (await database.pool.query("SELECT spec_hash, state_since FROM runtimes")).rows;
}

async function write({ publicUrl }: Daemon, updateId: number, text: string): Promise<void> {
  const from = { id: CHAT, is_bot: false, first_name: "Alice" };
  const chat = { id: CHAT, type: "private" };
  const { status } = await call(`${publicUrl}/webhooks/telegram`, {
    method: "POST",
    headers: { "x-telegram-bot-api-secret-token": "webhook-secret", "content-type": "application/json" },
    body: JSON.stringify({
      update_id: updateId,
      message: { message_id: updateId, date: 1_800_000_000, chat, from, text },
    }),
  });
  assert.equal(status, 200);
}
