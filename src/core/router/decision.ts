import type { SpendingStop } from "../billing/billing.ts";
import { assertNever } from "../platform/errors.ts";
import type { TenantStatus } from "../tenants/tenants.ts";
import type { UpdateFacts } from "./update.ts";

/** What is known when an update is looked at. */
export type DecisionFacts = {
  update: UpdateFacts;
  acceptedAt: Date;
  now: Date;
  /** The tenant of the chat. */
  tenant:
    | {
        status: TenantStatus;
        suspendedBy: "billing" | "operator" | null;
        telegramUserId: number | null;
        entitled: boolean;
        /** A checkout is completed, its money is on the way. */
        awaitingPayment: boolean;
        spendingStop: SpendingStop | undefined;
      }
    | undefined;
  runtime: { address: string | null; allowedUserId: number | null } | undefined;
};

export type AnswerTopic =
  | "onboarding"
  | "privateOnly"
  | "unpaid"
  | "suspended"
  | "suspendedByOperator"
  | "deleted"
  | "usedUp"
  | "modelsStopped";
export type HoldReason = "preparing" | "waking";

export type Verdict =
  | { kind: "link"; token: string }
  /** Say it, at most once in the topic's period, and be done with the update. */
  | { kind: "answer"; topic: AnswerTopic }
  /** Keep it and look again; `notice` tells the sender once that it takes a while. */
  | { kind: "hold"; notice: HoldReason }
  | { kind: "deliver"; address: string }
  /** Nothing to do: nobody is waiting for an answer. */
  | { kind: "ignore"; reason: string }
  /** Held for too long. */
  | { kind: "expire"; reason: string };

/** How long after acceptance an update may still be delivered. */
const STALE_MS = 10 * 60_000;

/** Kinds behind which somebody sits and waits. */
const SPOKEN = new Set(["message", "edited_message", "callback_query"]);

export function isSpoken({ kind }: Pick<UpdateFacts, "kind">): boolean {
  return SPOKEN.has(kind);
}

const FOREIGN = /business_message|^guest_message$/;

/** The first rule that applies decides. A pure function: acting on the verdict is its caller's part. */
export function decide(facts: DecisionFacts): Verdict {
  const { update, tenant } = facts;
  const isPrivate =
    update.chatType === "private" || (update.chatType === undefined && (update.chatId ?? update.userId ?? 0) > 0);
  if (update.startPayload !== undefined && isPrivate) return { kind: "link", token: update.startPayload };
  // Their chat is one between other people, of whom any may be a subscriber: whose message it is, a chat id doesn't tell.
  if (FOREIGN.test(update.kind)) return { kind: "ignore", reason: "business and guest chats are not served" };
  // Before "chat unknown": no group is ever linked, so that every one of them is unknown.
  if (!isPrivate) {
    return update.kind === "message"
      ? { kind: "answer", topic: "privateOnly" }
      : { kind: "ignore", reason: "not a private chat" };
  }
  const answer = (topic: AnswerTopic): Verdict =>
    isSpoken(update) ? { kind: "answer", topic } : { kind: "ignore", reason: topic };
  if (tenant === undefined) return answer("onboarding");
  switch (tenant.status) {
    case "pending":
      return tenant.entitled || tenant.awaitingPayment ? hold(facts, "preparing") : answer("unpaid");
    case "provisioning":
      // Given up at the provisioning deadline, which ends this status.
      return { kind: "hold", notice: "preparing" };
    case "suspended":
      // Entitled again, on its way to active: the light path takes a moment.
      if (tenant.suspendedBy === "billing" && tenant.entitled) return hold(facts, "waking");
      return answer(tenant.suspendedBy === "operator" ? "suspendedByOperator" : "suspended");
    case "deprovisioning":
    case "deleted":
      return answer("deleted");
    case "active":
      if (!tenant.entitled) return answer("suspended");
      // A runtime could only answer that it has no model.
      if (tenant.spendingStop !== undefined) return answer(tenant.spendingStop);
      return deliver(facts, tenant.telegramUserId);
    default:
      return assertNever(tenant.status);
  }
}

function deliver(facts: DecisionFacts, linkedUserId: number | null): Verdict {
  const { runtime, update } = facts;
  if (update.userId !== undefined && update.userId !== linkedUserId)
    return { kind: "ignore", reason: "sender is not the linked person" };
  // A runtime drops strangers silently: its observed configuration must name the sender first.
  const isKnownThere = update.userId === undefined || runtime?.allowedUserId === update.userId;
  if (runtime?.address == null || !isKnownThere) return hold(facts, "waking");
  if (isStale(facts)) return { kind: "expire", reason: "the runtime could not be reached in time" };
  return { kind: "deliver", address: runtime.address };
}

function hold(facts: DecisionFacts, notice: HoldReason): Verdict {
  return isStale(facts) ? { kind: "expire", reason: `still ${notice} after 10 minutes` } : { kind: "hold", notice };
}

/** Whether it is too late for the update to be of any use to its sender. */
export function isStale({ now, acceptedAt }: Pick<DecisionFacts, "now" | "acceptedAt">): boolean {
  return now.getTime() - acceptedAt.getTime() > STALE_MS;
}
