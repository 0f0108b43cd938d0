import { z } from "zod";
import { UpstreamError } from "../../platform/errors.ts";
import type { BotApi } from "./bot-api.ts";

/**
 * Every kind of update of Bot API 10.1. All are asked for: what an assistant does with them is its own matter, and a kind left
 * out would be missing without anybody noticing.
 */
export const UPDATE_KINDS = [
  "message",
  "edited_message",
  "channel_post",
  "edited_channel_post",
  "business_connection",
  "business_message",
  "edited_business_message",
  "deleted_business_messages",
  "guest_message",
  "message_reaction",
  "message_reaction_count",
  "inline_query",
  "chosen_inline_result",
  "callback_query",
  "shipping_query",
  "pre_checkout_query",
  "purchased_paid_media",
  "poll",
  "poll_answer",
  "my_chat_member",
  "chat_member",
  "chat_join_request",
  "chat_boost",
  "removed_chat_boost",
  "managed_bot",
] as const;

/** What Telegram leaves out unless it is asked for by name. */
const NOT_BY_DEFAULT: readonly string[] = ["chat_member", "message_reaction", "message_reaction_count"];

const seconds = z.int().transform((at) => new Date(at * 1_000));
const reply = z.object({
  url: z.string(),
  pending_update_count: z.int(),
  ip_address: z.string().optional(),
  last_error_date: seconds.optional(),
  last_error_message: z.string().optional(),
  last_synchronization_error_date: seconds.optional(),
  max_connections: z.int().optional(),
  allowed_updates: z.array(z.string()).optional(),
});

/** Where the public listener takes updates. */
export const WEBHOOK_PATH = "/webhooks/telegram";

/** The webhook as Telegram has it. */
export type WebhookInfo = {
  /** Empty: none is set. */
  url: string;
  pendingUpdates: number;
  ipAddress: string | null;
  lastError: { at: Date; message: string } | null;
  lastSynchronizationErrorAt: Date | null;
  maxConnections: number | null;
  allowedUpdates: readonly string[];
};

export type WebhookSettings = { url: string; secret: string; maxConnections: number; dropPending: boolean };

/** @throws BotApiError, or UpstreamError when the answer is not one of Telegram's. */
export async function fetchWebhookInfo(api: BotApi): Promise<WebhookInfo> {
  const parsed = reply.safeParse(await api.call("getWebhookInfo"));
  if (!parsed.success) {
    throw new UpstreamError("telegram_answer_unknown", "Telegram's getWebhookInfo answered something unknown.", {
      service: "telegram",
      retryable: false,
      cause: parsed.error,
    });
  }
  const { data } = parsed;
  return {
    url: data.url,
    pendingUpdates: data.pending_update_count,
    ipAddress: data.ip_address ?? null,
    lastError:
      data.last_error_date === undefined
        ? null
        : { at: data.last_error_date, message: data.last_error_message ?? "no message" },
    lastSynchronizationErrorAt: data.last_synchronization_error_date ?? null,
    maxConnections: data.max_connections ?? null,
    allowedUpdates: data.allowed_updates ?? UPDATE_KINDS.filter((kind) => !NOT_BY_DEFAULT.includes(kind)),
  };
}

/** Everything is stated: what is left out would stay as an earlier call set it. @throws BotApiError. */
export async function setWebhook(api: BotApi, settings: WebhookSettings): Promise<void> {
  await api.call("setWebhook", {
    url: settings.url,
    secret_token: settings.secret,
    max_connections: settings.maxConnections,
    allowed_updates: UPDATE_KINDS,
    drop_pending_updates: settings.dropPending,
  });
}

/** @throws BotApiError. */
export async function deleteWebhook(api: BotApi, dropPending: boolean): Promise<void> {
  await api.call("deleteWebhook", { drop_pending_updates: dropPending });
}

/** Kinds that are asked for and not sent, and the other way round. */
export function compareKinds(allowed: readonly string[]): { missing: string[]; unexpected: string[] } {
  const wanted: readonly string[] = UPDATE_KINDS;
  return {
    missing: wanted.filter((kind) => !allowed.includes(kind)),
    unexpected: allowed.filter((kind) => !wanted.includes(kind)),
  };
}

const PORTS = ["443", "80", "88", "8443"];

/** Why Telegram would not send updates to `url`; undefined when it would. */
export function webhookUrlProblem(url: string): string | undefined {
  const parsed = URL.parse(url);
  if (parsed === null) return "it is not a URL";
  if (parsed.protocol !== "https:") return "Telegram sends updates over https only";
  if (parsed.username !== "" || parsed.password !== "") return "it must not hold a user name or password";
  const port = parsed.port === "" ? "443" : parsed.port;
  return PORTS.includes(port) ? undefined : `Telegram knows the ports ${PORTS.join(", ")} only, not ${port}`;
}
