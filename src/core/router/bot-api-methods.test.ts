import assert from "node:assert/strict";
import test from "node:test";
import { findBotApiMethod, fixedResult, listBotApiMethods } from "./bot-api-methods.ts";

function ruleOf(name: string): string | undefined {
  return findBotApiMethod(name)?.rule;
}

test("the table knows all 180 methods of Bot API 10.1", () => {
  assert.equal(listBotApiMethods().length, 180);
});

test("what a runtime calls by itself at start is answered here (F4)", () => {
  for (const name of ["setWebhook", "deleteWebhook", "setMyCommands", "deleteMyCommands", "logOut", "close"]) {
    assert.equal(ruleOf(name), "absorb", name);
  }
  assert.equal(ruleOf("getMe"), "getMe");
  assert.equal(ruleOf("getUpdates"), "conflict");
});

test("what reaches beyond the tenant's chat, or spends the operator's money, is refused", () => {
  for (const name of ["sendInvoice", "sendGift", "getManagedBotToken", "leaveChat", "banChatMember", "postStory"]) {
    assert.equal(ruleOf(name), "refuse", name);
  }
});

test("a method is found in any case, and keeps Telegram's spelling", () => {
  assert.deepEqual(findBotApiMethod("SETWEBHOOK"), { name: "setWebhook", rule: "absorb" });
  assert.equal(findBotApiMethod("sendEverything"), undefined);
});

test("every method with a fixed answer has one", () => {
  for (const { name, rule } of listBotApiMethods()) if (rule === "fixed") assert.notEqual(fixedResult(name), undefined);
});
