import { randomInt } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { Agent, request } from "undici";

/** As many as Telegram opens to a webhook at most. */
const MAX_CONNECTIONS = 100;
const RETRY_MS = 50;
/** In every message, and to be found nowhere else. */
export const WORDS = "nobody-elses-business";

/**
 * Sends as Telegram does: the updates of a chat one after the other, each again and again until it is answered with 200.
 * They go to whichever daemon a load balancer would pick. @returns the update ids of each chat in the order of sending.
 */
export async function sendAll(options: {
  chats: readonly number[];
  updates: number;
  secret: string;
  /** Of the daemons that live. */
  urls: () => readonly string[];
  onAccepted: (count: number) => void;
}): Promise<Map<number, number[]>> {
  const agent = new Agent({ connections: MAX_CONNECTIONS });
  const sent = new Map<number, number[]>(options.chats.map((chat) => [chat, []]));
  let nextId = 1;
  let accepted = 0;

  async function sendChat(chat: number, updateIds: number[]): Promise<void> {
    while (nextId <= options.updates) {
      const updateId = nextId;
      nextId += 1;
      updateIds.push(updateId);
      while (!(await send(chat, updateId))) await delay(RETRY_MS);
      accepted += 1;
      options.onAccepted(accepted);
    }
  }

  async function send(chat: number, updateId: number): Promise<boolean> {
    const urls = options.urls();
    const url = urls.length === 0 ? undefined : urls[randomInt(urls.length)];
    if (url === undefined) return false;
    try {
      const { statusCode, body } = await request(`${url}/webhooks/telegram`, {
        dispatcher: agent,
        method: "POST",
        headers: { "content-type": "application/json", "x-telegram-bot-api-secret-token": options.secret },
        body: JSON.stringify(updateOf(chat, updateId)),
      });
      await body.dump();
      return statusCode === 200;
    } catch {
      // Killed in the middle: Telegram, too, learns nothing and sends it again.
      return false;
    }
  }

  await Promise.all([...sent].map(([chat, updateIds]) => sendChat(chat, updateIds)));
  await agent.close();
  return sent;
}

function updateOf(chat: number, updateId: number) {
  return {
    update_id: updateId,
    message: {
      message_id: updateId,
      date: 1_800_000_000,
      chat: { id: chat, type: "private" },
      from: { id: chat, is_bot: false, first_name: "Chaos" },
      text: `${WORDS} ${updateId}`,
    },
  };
}
