import { Readable } from "node:stream";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Clock } from "../platform/clock.ts";
import { assertNever, UpstreamError, UsageError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import { findBotApiMethod, fixedResult } from "./bot-api-methods.ts";
import {
  type Claim,
  claimsOf,
  idsGranted,
  isOwnChatClaim,
  type TelegramIdKind,
  type TenantChat,
} from "./bot-api-ownership.ts";
import { readBotApiRequest } from "./bot-api-request.ts";
import { type BotApiUpstream, createBotApiUpstream, type UpstreamReply } from "./bot-api-upstream.ts";
import type { RuntimeAuth } from "./runtime-auth.ts";
import { logsRouteOnly } from "./runtime-log.ts";

export type BotApiGatewayDeps = {
  auth: RuntimeAuth;
  clock: Clock;
  /** The real bot; while there is none, what needs no bot is answered all the same, so that runtimes can start (F4). */
  telegram: { apiRoot: string; token: string } | undefined;
  /** The private chat linked to a tenant, and its user. */
  tenantChat(tenantId: TenantId): Promise<TenantChat | undefined>;
  /** Whether an id was delivered to this tenant, in an update or in a reply. */
  ownsId(tenantId: TenantId, kind: TelegramIdKind, id: string): Promise<boolean>;
  /** Remembers ids that a reply has just given to this tenant. Repeats are normal. */
  rememberIds(tenantId: TenantId, ids: readonly { kind: TelegramIdKind; id: string }[]): Promise<void>;
};

type Target = { kind: "method"; method: string } | { kind: "file"; path: string };
type Caller = { tenantId: TenantId; target: Target };
type Gateway = { deps: BotApiGatewayDeps; upstream: BotApiUpstream; getMe: () => Promise<UpstreamReply> };

const NO_BOT: BotApiUpstream = { call: refuseWithoutBot, download: refuseWithoutBot, close: async () => undefined };

async function refuseWithoutBot(): Promise<never> {
  throw new UpstreamError("telegram-not-configured", "no bot is configured", { service: "telegram", retryable: true });
}

const CALLER = "botApiCaller";
const GET_ME_CACHE_MS = 60 * 60 * 1000;

/**
 * Mounts `/runtime/<tenant-id>/telegram/bot<token>/<method>` and `/file/bot<token>/<path>`: the Bot API as one tenant may use it, with the
 * tenant's own token. A caller is authenticated before its body is read. Every refusal has Telegram's own shape.
 */
export async function registerBotApiGateway(app: FastifyInstance, deps: BotApiGatewayDeps): Promise<void> {
  const upstream = deps.telegram === undefined ? NO_BOT : createBotApiUpstream(deps.telegram);
  const gateway: Gateway = { deps, upstream, getMe: cacheGetMe(upstream, deps.clock) };

  await app.register(async (scope) => {
    scope.addHook("onClose", () => upstream.close());
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser("*", (_request, payload, done) => done(null, payload));
    scope.decorateRequest(CALLER, null);
    scope.setErrorHandler((error, request, reply) => sendError(error, request, reply));
    scope.addHook("onRequest", async (request, reply) => {
      const caller = await authenticate(deps.auth, request);
      // The rest of the body is not waited for: the connection ends with the refusal.
      if (caller === undefined) return refuse(reply.header("connection", "close"), 401, "Unauthorized");
      request.setDecorator(CALLER, caller);
    });
    scope.all("/runtime/:tenantId/telegram/*", logsRouteOnly, async (request, reply) => {
      const { tenantId, target } = request.getDecorator<Caller>(CALLER);
      if (target.kind === "file") return sendFile(gateway, tenantId, target.path, reply);
      return answer(gateway, tenantId, target.method, request, reply);
    });
  });
}

/** The path is taken apart by hand, because a token contains the `:` that marks a parameter in a route. */
async function authenticate(auth: RuntimeAuth, request: FastifyRequest): Promise<Caller | undefined> {
  const params = request.params;
  if (typeof params !== "object" || params === null || !("tenantId" in params) || !("*" in params)) return undefined;
  const [, file, token, rest] = /^(file\/)?bot([^/]+)\/(.+)$/s.exec(String(params["*"])) ?? [];
  const tenantId = await auth.authenticate(String(params.tenantId), "telegram-token", token ?? "");
  if (tenantId === undefined || rest === undefined) return undefined;
  return { tenantId, target: file === undefined ? { kind: "method", method: rest } : { kind: "file", path: rest } };
}

async function answer(
  gateway: Gateway,
  tenantId: TenantId,
  methodName: string,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const method = findBotApiMethod(methodName);
  if (method === undefined) return refuse(reply, 403, "Forbidden: the method is unknown to this gateway");
  switch (method.rule) {
    case "absorb":
      return reply.send({ ok: true, result: true });
    case "fixed":
      return reply.send({ ok: true, result: fixedResult(method.name) });
    case "getMe":
      return sendReply(reply, await gateway.getMe());
    case "conflict":
      return refuse(reply, 409, "Conflict: updates arrive by webhook here; getUpdates is not available");
    case "refuse":
      request.log.info({ tenantId, method: method.name }, "Bot API method refused");
      return refuse(reply, 403, `Forbidden: ${method.name} is not available here`);
    case "pass":
      return forward(gateway, tenantId, method.name, request, reply);
    default:
      return assertNever(method.rule);
  }
}

async function forward(
  { deps, upstream }: Gateway,
  tenantId: TenantId,
  method: string,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const call = await readBotApiRequest({
    query: request.raw.url?.split("?", 2)[1] ?? "",
    contentType: request.headers["content-type"],
    body: request.body instanceof Readable ? request.body : undefined,
  });
  const claims = claimsOf(call.params);
  if (claims.length === 0) return refuse(reply, 400, "Bad Request: chat_id is empty");
  const foreign = await findForeignClaim(deps, tenantId, claims);
  if (foreign !== undefined) {
    request.log.warn(
      { tenantId, method, field: foreign.field },
      "Bot API call names something that is not the tenant's",
    );
    return refuse(reply, 403, `Forbidden: ${foreign.field} does not belong to this bot's chat`);
  }
  const answered = await reachTelegram(() => upstream.call(method, call));
  await rememberGranted(deps, tenantId, answered, request);
  return sendReply(reply, answered);
}

/** The call has taken effect by now: failing it would make the runtime repeat it, so a failure here costs only the ids. */
async function rememberGranted(
  deps: BotApiGatewayDeps,
  tenantId: TenantId,
  { status, body }: UpstreamReply,
  request: FastifyRequest,
): Promise<void> {
  const ids = status === 200 ? idsGranted(body.toString()) : [];
  if (ids.length === 0) return;
  try {
    await deps.rememberIds(tenantId, ids);
  } catch (error) {
    request.log.error({ tenantId, err: error }, "ids granted by Telegram were not remembered");
  }
}

/** The first claim that is not the tenant's. A tenant without a chat owns nothing. */
async function findForeignClaim(
  deps: BotApiGatewayDeps,
  tenantId: TenantId,
  claims: Claim[],
): Promise<Claim | undefined> {
  const chat = await deps.tenantChat(tenantId);
  for (const claim of claims) {
    if (chat === undefined || !(await isOwnClaim(deps, tenantId, claim, chat))) return claim;
  }
  return undefined;
}

async function isOwnClaim(
  deps: BotApiGatewayDeps,
  tenantId: TenantId,
  claim: Claim,
  chat: TenantChat,
): Promise<boolean> {
  if (claim.kind === "unknown") return false;
  if (claim.kind === "chat" || claim.kind === "user") return isOwnChatClaim(claim, chat);
  return typeof claim.value === "string" && (await deps.ownsId(tenantId, claim.kind, claim.value));
}

async function sendFile(
  { deps, upstream }: Gateway,
  tenantId: TenantId,
  path: string,
  reply: FastifyReply,
): Promise<FastifyReply> {
  if (!(await deps.ownsId(tenantId, "file-path", path))) return refuse(reply, 404, "Not Found");
  const file = await reachTelegram(() => upstream.download(path));
  return reply.code(file.status).headers(file.headers).send(file.body);
}

/** Everything that goes wrong between us and Telegram is one failure, which a runtime may retry. */
async function reachTelegram<Result>(attempt: () => Promise<Result>): Promise<Result> {
  try {
    return await attempt();
  } catch (cause) {
    if (cause instanceof UpstreamError) throw cause;
    throw new UpstreamError("telegram-unreachable", "Telegram can't be reached", {
      service: "telegram",
      retryable: true,
      cause,
    });
  }
}

/** The bot's identity, asked for once by however many callers, and again an hour later. A failure is not kept. */
function cacheGetMe(upstream: BotApiUpstream, clock: Clock): () => Promise<UpstreamReply> {
  let cached: { expiresAt: number; reply: Promise<UpstreamReply> } | undefined;

  async function ask(): Promise<UpstreamReply> {
    const reply = await reachTelegram(() => upstream.call("getMe", { params: new Map(), files: new Map() }));
    if (reply.status === 200) return reply;
    throw new UpstreamError("telegram-refused", `Telegram answered getMe with ${reply.status}`, {
      service: "telegram",
      retryable: true,
    });
  }

  return () => {
    const now = clock.now().getTime();
    if (cached !== undefined && cached.expiresAt > now) return cached.reply;
    const entry = { expiresAt: now + GET_ME_CACHE_MS, reply: ask() };
    cached = entry;
    entry.reply.catch(() => {
      if (cached === entry) cached = undefined;
    });
    return entry.reply;
  };
}

function sendReply(reply: FastifyReply, { status, headers, body }: UpstreamReply): FastifyReply {
  return reply.code(status).headers(headers).send(body);
}

function refuse(reply: FastifyReply, status: number, description: string): FastifyReply {
  return reply.code(status).send({ ok: false, error_code: status, description });
}

function sendError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  if (error instanceof UsageError) {
    const isTooLarge = error.code === "too-large";
    if (isTooLarge) return refuse(reply.header("connection", "close"), 413, error.message);
    return refuse(reply, 400, `Bad Request: ${error.message}`);
  }
  if (error instanceof UpstreamError) {
    request.log.warn({ err: error }, "Bot API call failed");
    return refuse(reply, 502, `Bad Gateway: ${error.message}`);
  }
  request.log.error({ err: error }, "Bot API gateway failed");
  return refuse(reply, 500, "Internal Server Error");
}
