import assert from "node:assert/strict";
import { test } from "node:test";
import { freeUid } from "./isolation.ts";
import { localiseConfig } from "./localise.ts";
import { readStream } from "./sandbox/model.ts";
import { SettingsError, substitute } from "./sandbox/settings.ts";
import { keysOf, turnOf } from "./sandbox/update.ts";
import { backoffMs } from "./supervisor.ts";

test("a user id is never shared, and never that of nobody", () => {
  assert.equal(freeUid(new Set()), 61_000);
  assert.equal(freeUid(new Set([61_000, 61_002])), 61_001);
  const all = new Set(Array.from({ length: 65_534 - 61_000 }, (_, index) => 61_000 + index));
  assert.equal(freeUid(all), 65_536);
});

test("a configuration is moved to this machine and otherwise left as it is", () => {
  const config = {
    gateway: { bind: "lan", auth: { mode: "token" } },
    channels: { telegram: { name: "acme" } },
    tools: { web: [] },
  };
  assert.deepEqual(localiseConfig(config, { gatewayPort: 1, webhookPort: 2, workspace: "/w", logFile: "/l" }), {
    gateway: { bind: "loopback", port: 1, auth: { mode: "token" } },
    channels: { telegram: { name: "acme", webhookHost: "127.0.0.1", webhookPort: 2 } },
    agents: { defaults: { workspace: "/w" } },
    logging: { file: "/l" },
    tools: { web: [] },
  });
  assert.equal(config.gateway.bind, "lan");
});

test("failures in a row make a restart wait longer, up to a minute", () => {
  assert.deepEqual([0, 1, 2, 5, 6, 50].map(backoffMs), [1_000, 2_000, 4_000, 32_000, 60_000, 60_000]);
});

test("references are filled in at any depth, and a missing or empty one is an error (F95)", () => {
  const filled = substitute({ a: ["${X}-${Y}", 1, null], b: { c: "${X}" } }, { X: "x", Y: "y" });
  assert.deepEqual(filled, { a: ["x-y", 1, null], b: { c: "x" } });
  assert.throws(() => substitute("${X}", {}), SettingsError);
  assert.throws(() => substitute("${X}", { X: "" }), SettingsError);
});

test("a button tap is a turn of its own; groups get none", () => {
  const message = { message_id: 5, chat: { id: 7, type: "private" }, from: { id: 1 } };
  const tap = { update_id: 9, callback_query: { id: "q", from: { id: 7 }, data: "yes", message } };
  assert.deepEqual(turnOf(tap), { chatId: "7", senderId: "7", prompt: "yes", callbackQueryId: "q" });
  assert.deepEqual(keysOf(9, tap), ["update:9"]);
  assert.equal(turnOf({ message: { ...message, chat: { id: -1, type: "group" } } }), undefined);
});

test("a photo with a caption is named to the model (F19)", () => {
  const message = { message_id: 5, chat: { id: 7, type: "private" }, from: { id: 7 }, photo: [{}], caption: "look" };
  assert.equal(turnOf({ message })?.prompt, "[photo] look");
});

test("both kinds of stream are read, other events skipped", () => {
  const openai =
    'data: {"choices":[{"delta":{"content":"Hel"}}]}\n\ndata: {"choices":[{"delta":{"content":"lo"}}]}\n\ndata: {"choices":[],"usage":{}}\n\ndata: [DONE]\n\n';
  const anthropic =
    'event: message_start\ndata: {"type":"message_start"}\n\nevent: content_block_delta\ndata: {"delta":{"type":"text_delta","text":"Hello"}}\n\n';
  assert.equal(readStream(openai), "Hello");
  assert.equal(readStream(anthropic), "Hello");
});
