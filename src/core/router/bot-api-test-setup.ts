import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { TestContext } from "node:test";
import { request } from "undici";
import { createPacer, type Pacer } from "../adapters/telegram/pacer.ts";
import { createMemorySlots } from "../adapters/telegram/send-slots.ts";
import { type Clock, systemClock } from "../platform/clock.ts";
import { parseTenantId, type TenantId } from "../platform/ids.ts";
import { createLog } from "../platform/log.ts";
import { startTelegramServer } from "../testing/fakes/telegram-server.ts";
import { createBotApiGateway } from "./bot-api-gateway.ts";
import type { Json } from "./bot-api-json.ts";
import { createRuntimeAuth } from "./runtime-auth.ts";

export const REAL_TOKEN = "4242:real-bot-token";
export const ALICE = tenantId("11111111-1111-4111-8111-111111111111");
export const BOB = tenantId("22222222-2222-4222-8222-222222222222");
export const TOKENS = new Map([
  [ALICE, "1001:alice-token"],
  [BOB, "1002:bob-token"],
]);
export const CHATS = new Map([
  [ALICE, { chatId: 111, userId: 111 }],
  [BOB, { chatId: 222, userId: 222 }],
]);

function tenantId(text: string): TenantId {
  const id = parseTenantId(text);
  if (id === undefined) throw new Error(text);
  return id;
}

export type TelegramReply = {
  ok?: boolean;
  error_code?: number;
  result?: { id?: number; chat?: { id: number }; file_path?: string };
};

/** A gateway for Alice and Bob, who each have a private chat, in front of a loopback Bot API or what is at `apiRoot`. */
export async function startGateway(t: TestContext, options: { apiRoot?: string; pacer?: Pacer; clock?: Clock } = {}) {
  const telegram = await startTelegramServer({ token: REAL_TOKEN });
  const lines: string[] = [];
  const owned = new Set<string>();
  const closed: number[] = [];
  /** The first ids that a reply gave. */
  const learnt = Promise.withResolvers<readonly { kind: string; id: string }[]>();
  const chats = new Map(CHATS);
  const divisor = async () => 1;
  const quick = createPacer({
    slots: createMemorySlots(divisor),
    divisor,
    sendsPerSecond: 100_000,
    chatIntervalMs: 0.01,
  });
  const gateway = createBotApiGateway({
    log: createLog("debug", { write: (line) => void lines.push(line) }),
    auth: createRuntimeAuth({
      credentials: {
        find: async (id) => {
          const token = TOKENS.get(id);
          return token === undefined ? [] : [{ sha256: createHash("sha256").update(token).digest(), expiresAt: null }];
        },
      },
      clock: systemClock,
    }),
    clock: options.clock ?? systemClock,
    pacer: options.pacer ?? quick,
    closeChat: async (chatId) => void closed.push(chatId),
    telegram: { apiRoot: options.apiRoot ?? telegram.url, token: REAL_TOKEN },
    tenantChat: async (id) => chats.get(id),
    ownsId: async (id, kind, value) => owned.has(`${id} ${kind} ${value}`),
    rememberIds: async (id, ids) => {
      for (const { kind, id: value } of ids) owned.add(`${id} ${kind} ${value}`);
      learnt.resolve(ids);
    },
  });
  const server = createServer((incoming, response) => gateway.serve(incoming, response)).listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the gateway has no port");
  const url = `http://127.0.0.1:${address.port}`;
  t.after(async () => {
    server.close();
    server.closeAllConnections();
    await gateway.close();
    await telegram.close();
  });

  async function send(
    path: string,
    init: Parameters<typeof request>[1] = {},
  ): Promise<{ status: number; body: TelegramReply; bytes: Buffer }> {
    const { statusCode, body } = await request(url + path, init);
    const bytes = Buffer.from(await body.arrayBuffer());
    return { status: statusCode, bytes, body: bytes.toString().startsWith("{") ? JSON.parse(bytes.toString()) : {} };
  }
  const bot = (id: TenantId): string => `/runtime/${id}/telegram/bot${TOKENS.get(id)}`;
  const call = (id: TenantId, method: string, params: Json = {}) =>
    send(`${bot(id)}/${method}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(params),
    });
  return { telegram, url, send, bot, call, chats, owned, learnt: learnt.promise, closed, lines };
}
