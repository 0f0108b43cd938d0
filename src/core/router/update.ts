import { UsageError } from "../platform/errors.ts";

export const SHARD_COUNT = 64;

/** A Telegram update as received: the whole of it goes to the runtime, only a few fields are read here. */
export type Update = { updateId: number; fields: Record<string, unknown> };

/** What routing needs to know about an update. */
export type UpdateFacts = {
  /** The name of its one field beside `update_id`, such as "message"; "unknown" when there is none. */
  kind: string;
  /** The chat it happened in; undefined for kinds that have none. */
  chatId: number | undefined;
  /** "private", "group", "supergroup" or "channel". */
  chatType: string | undefined;
  /** Who caused it. */
  userId: number | undefined;
  username: string | undefined;
  /** The payload of `/start <payload>`. */
  startPayload: string | undefined;
  callbackQueryId: string | undefined;
  /** Telegram's news that the person has blocked the bot. */
  isBotBlocked: boolean;
  /** When its sender sent it, where Telegram says so. */
  sentAt: Date | undefined;
};

/** @throws UsageError when the body is no JSON object with a safe-integer `update_id`. */
export function parseUpdate(body: Buffer): Update {
  const fields = parseJson(body);
  if (!isRecord(fields)) throw new UsageError("update_invalid", "The body must be a JSON object.");
  const updateId = fields["update_id"];
  if (typeof updateId !== "number" || !Number.isSafeInteger(updateId)) {
    throw new UsageError("update_invalid", "update_id must be an integer.");
  }
  return { updateId, fields };
}

function parseJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString("utf8"));
  } catch (error) {
    throw new UsageError("update_invalid", "The body is not JSON.", { cause: error });
  }
}

/** Reads the facts from wherever the update's kind keeps them; whatever is missing or absurd is undefined. */
export function readFacts({ fields }: Update): UpdateFacts {
  const kind = Object.keys(fields).find((key) => key !== "update_id" && isRecord(fields[key])) ?? "unknown";
  const content = record(fields[kind]);
  const message = kind === "callback_query" ? record(content["message"]) : content;
  const chat = record(message["chat"]);
  const from = record(content["from"] ?? content["user"]);
  return {
    kind,
    chatId: id(chat["id"]) ?? id(content["user_chat_id"]),
    chatType: text(chat["type"]),
    userId: id(from["id"]),
    username: text(from["username"]),
    startPayload:
      kind === "message"
        ? /^\/start(?:@\w+)? ([A-Za-z0-9_-]{1,64})$/.exec(text(content["text"]) ?? "")?.[1]
        : undefined,
    callbackQueryId: kind === "callback_query" ? text(content["id"]) : undefined,
    isBotBlocked: kind === "my_chat_member" && record(content["new_chat_member"])["status"] === "kicked",
    sentAt: time(content["date"]),
  };
}

/** Updates of one lane are delivered one after the other: the chat's, else the user's; 0 gathers those of nobody. */
export function laneOf(facts: UpdateFacts): number {
  return facts.chatId ?? facts.userId ?? 0;
}

/** Spreads lanes evenly over shards: Fibonacci hashing of the id's two halves, the top six bits. */
export function shardOf(lane: number): number {
  // Doubles: a BigInt takes ten times as long, once for every update.
  const high = Math.floor(lane / 2 ** 32);
  return Math.imul(lane ^ Math.imul(high, 0x85ebca6b), 0x9e3779b1) >>> 26;
}

/** Telegram's seconds; undefined for what is no time, the 0 of an inaccessible message included. */
function time(value: unknown): Date | undefined {
  if (typeof value !== "number" || value <= 0) return undefined;
  const date = new Date(value * 1_000);
  return Number.isNaN(date.getTime()) ? undefined : date;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function record(value: unknown): Record<string, unknown> {
  return isRecord(value) ? value : {};
}

function id(value: unknown): number | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) ? value : undefined;
}

function text(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}
