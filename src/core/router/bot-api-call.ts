import { isChatClosed } from "../adapters/telegram/bot-api.ts";
import type { Pacer } from "../adapters/telegram/pacer.ts";
import { UsageError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import type { BotApiMethod } from "./bot-api-methods.ts";
import {
  type Claim,
  claimsOf,
  idsGranted,
  isIdKind,
  isOwnChat,
  type TelegramIdKind,
  type TenantChat,
} from "./bot-api-ownership.ts";
import type { BotApiRequest } from "./bot-api-request.ts";
import type { UpstreamReply } from "./bot-api-upstream.ts";
import { createTransferPlaces } from "./transfer-places.ts";

export type BotApiCallDeps = {
  pacer: Pacer;
  /** The private chat linked to a tenant, and its user. */
  tenantChat(tenantId: TenantId): Promise<TenantChat | undefined>;
  /** Whether an id was delivered to this tenant, in an update or in a reply. */
  ownsId(tenantId: TenantId, kind: TelegramIdKind, id: string): Promise<boolean>;
  /** Remembers ids that a reply has just given to this tenant. Repeats are normal. */
  rememberIds(tenantId: TenantId, ids: readonly { kind: TelegramIdKind; id: string }[]): Promise<void>;
  /** Takes note that nothing arrives in a chat any more, because its person blocked the bot or is gone. */
  closeChat(chatId: number): Promise<void>;
};

export type BotApiCall = {
  tenantId: TenantId;
  method: Extract<BotApiMethod, { rule: "pass" }>;
  request: BotApiRequest;
  signal: AbortSignal;
  /** Told when something was not learnt from a reply. The call has taken effect by then: failing it would have it repeated. */
  onUnlearnt: (error: unknown) => void;
};

export type CallOutcome =
  | { kind: "answered"; reply: UpstreamReply }
  /** A chat action for which there was no room; nothing is lost with it. */
  | { kind: "shed" }
  | { kind: "incomplete"; field: string }
  | { kind: "foreign"; field: string }
  | { kind: "too-many"; retryAfterSeconds: number };

/** Unlinking takes effect within this time; a new link at once, since a chat that is not known is looked up again. */
const CHAT_KEPT_MS = 2_000;
const MAX_CHATS_KEPT = 10_000;
/** When to come back for a place for a file. */
export const TRANSFER_RETRY_SECONDS = 5;

/** Makes calls for tenants: each is checked, waits for its turn, is sent, and its reply is learnt from. */
export function createBotApiCaller(
  deps: BotApiCallDeps,
  send: (method: string, request: BotApiRequest, signal: AbortSignal) => Promise<UpstreamReply>,
): (call: BotApiCall) => Promise<CallOutcome> {
  const chats = new Map<TenantId, { chat: TenantChat; until: number }>();
  const uploads = createTransferPlaces();

  return async function call(call) {
    const { tenantId, method, request } = call;
    const missing = method.names.find((group) => !group.some((field) => request.params.has(field)));
    if (missing !== undefined) return { kind: "incomplete", field: missing[0] ?? "" };
    const claims = claimsOf(request.params);
    let chat = recentChat(tenantId);
    let foreign = findForeign(claims, chat);
    // Links change: nothing is refused for what was true a moment ago.
    if (chat === undefined || foreign !== undefined) {
      chat = await lookUpChat(tenantId);
      foreign = findForeign(claims, chat);
    }
    foreign ??= await findForeignId(tenantId, claims);
    if (foreign !== undefined) return { kind: "foreign", field: foreign.field };
    if (chat === undefined) throw new UsageError("no-chat", "chat not found");
    return request.upload === undefined ? await pace(call, chat) : await upload(call, chat);
  };

  async function upload(call: BotApiCall, chat: TenantChat): Promise<CallOutcome> {
    const leave = uploads.enter(call.tenantId);
    if (leave === undefined) return { kind: "too-many", retryAfterSeconds: TRANSFER_RETRY_SECONDS };
    try {
      return await pace(call, chat);
    } finally {
      leave();
    }
  }

  async function pace(call: BotApiCall, { chatId }: TenantChat): Promise<CallOutcome> {
    const { tenantId, method, request, signal } = call;
    if (method.pace === "action") {
      if (!(await deps.pacer.admitAction(chatId))) return { kind: "shed" };
    } else {
      const isMessage = method.pace === "message";
      const admission = await deps.pacer.admit({ chatId, share: tenantId, isMessage }, signal);
      if (!admission.admitted) return { kind: "too-many", retryAfterSeconds: admission.retryAfterSeconds };
    }
    const reply = await send(method.name, request, signal);
    const lesson = reply.status === 200 ? remember(tenantId, reply.body) : learn(chatId, reply);
    await lesson?.catch(call.onUnlearnt);
    return { kind: "answered", reply };
  }

  function recentChat(tenantId: TenantId): TenantChat | undefined {
    const known = chats.get(tenantId);
    return known !== undefined && known.until > performance.now() ? known.chat : undefined;
  }

  async function lookUpChat(tenantId: TenantId): Promise<TenantChat | undefined> {
    const chat = await deps.tenantChat(tenantId);
    if (chats.size >= MAX_CHATS_KEPT) chats.clear();
    if (chat === undefined) chats.delete(tenantId);
    else chats.set(tenantId, { chat, until: performance.now() + CHAT_KEPT_MS });
    return chat;
  }

  /** The first id that was not given to this tenant. */
  async function findForeignId(tenantId: TenantId, claims: Claim[]): Promise<Claim | undefined> {
    for (const claim of claims) {
      const { kind, value } = claim;
      if (!isIdKind(kind)) continue;
      if (typeof value !== "string" || !(await deps.ownsId(tenantId, kind, value))) return claim;
    }
    return undefined;
  }

  function remember(tenantId: TenantId, body: Buffer): Promise<void> | undefined {
    // Most replies give nothing away, and need not be taken apart to know it.
    if (!body.includes("file_")) return undefined;
    const ids = idsGranted(body.toString());
    return ids.length > 0 ? deps.rememberIds(tenantId, ids) : undefined;
  }

  async function learn(chatId: number, { status, body }: UpstreamReply): Promise<void> {
    if (status !== 429 && status !== 403) return;
    const { description, retryAfterSeconds } = readRefusal(body);
    if (retryAfterSeconds !== undefined) deps.pacer.slowDown(chatId, retryAfterSeconds);
    if (isChatClosed(status, description)) await deps.closeChat(chatId);
  }
}

/** The first claim that is on nobody's or another's chat or user. A tenant without a chat owns nothing. */
function findForeign(claims: Claim[], chat: TenantChat | undefined): Claim | undefined {
  return claims.find(({ kind, value }) => chat === undefined || !(isIdKind(kind) || isOwnChat(kind, value, chat)));
}

function readRefusal(body: Buffer): { description: string; retryAfterSeconds: number | undefined } {
  let reply: { description?: unknown; parameters?: { retry_after?: unknown } };
  try {
    reply = JSON.parse(body.toString());
  } catch (error) {
    if (error instanceof SyntaxError) return { description: "", retryAfterSeconds: undefined };
    throw error;
  }
  const retryAfter = reply.parameters?.retry_after;
  return {
    description: String(reply.description),
    retryAfterSeconds: typeof retryAfter === "number" && retryAfter > 0 ? retryAfter : undefined,
  };
}
