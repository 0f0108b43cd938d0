import type pg from "pg";
import type { Clock } from "../platform/clock.ts";
import { assertNever } from "../platform/errors.ts";
import { decide, type Verdict } from "./decision.ts";
import { createRouteLookup, type Route } from "./routes.ts";
import { laneOf, type Update, type UpdateFacts, readFacts } from "./update.ts";

/** What would happen to an update now, and what that follows from. */
export type Simulation = { update: UpdateFacts; lane: number; route: Route | undefined; verdict: Verdict };

/** Decides on an update as the router would at this moment; changes nothing, sends nothing, counts nothing. */
export async function simulateUpdate(
  ctx: { pool: pg.Pool; clock: Clock },
  parsed: Update,
  acceptedAt: Date,
): Promise<Simulation> {
  const update = readFacts(parsed);
  const lane = laneOf(update);
  const route = lane > 0 ? await createRouteLookup(ctx).submit(lane) : undefined;
  const verdict = decide({
    update,
    acceptedAt,
    now: ctx.clock.now(),
    tenant: route && { ...route.tenant, ...route },
    runtime: route?.runtime,
  });
  return { update, lane, route, verdict };
}

const KINDS_WITH_CHAT = new Set(["message", "edited_message"]);

/** An update of `kind` as Telegram would send it from a chat: a private one for a positive id, a supergroup for a negative. */
export function buildUpdate(options: { chatId: number; userId?: number; kind?: string; text?: string }): Update {
  const { chatId, kind = "message", text = "hello" } = options;
  const userId = options.userId ?? Math.abs(chatId);
  const from = { id: userId, is_bot: false, first_name: "Simulated" };
  const chat = { id: chatId, type: chatId > 0 ? "private" : "supergroup" };
  const message = { message_id: 1, date: 0, chat, from, text };
  const content = KINDS_WITH_CHAT.has(kind)
    ? message
    : kind === "callback_query"
      ? { id: "1", from, message, chat_instance: "1", data: text }
      : { from, chat };
  return { updateId: 0, fields: { update_id: 0, [kind]: content } };
}

/** The verdict as a sentence for an operator. */
export function describeVerdict(verdict: Verdict): string {
  switch (verdict.kind) {
    case "link":
      return "use up the link token and answer whether the chat is linked now";
    case "answer":
      return `not delivered; answered by the service itself: ${verdict.topic}`;
    case "hold":
      return verdict.notice === "preparing"
        ? "held until the tenant is provisioned"
        : "held until the runtime is up and its configuration names the sender; it is being woken";
    case "deliver":
      return `delivered to ${verdict.address}, within the rate limit`;
    case "ignore":
      return `ignored: ${verdict.reason}`;
    case "expire":
      return `given up with an apology: ${verdict.reason}`;
    default:
      return assertNever(verdict);
  }
}
