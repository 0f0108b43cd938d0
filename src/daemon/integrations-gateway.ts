import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import {
  describeAction,
  handOutToken,
  type IntegrationsContext,
  listForRuntime,
  type TokenAnswer,
} from "../core/integrations/integrations.ts";
import type { ProviderId, TenantId } from "../core/platform/ids.ts";
import type { RuntimeAuth } from "../core/router/router.ts";
import { logsRouteOnly } from "../core/router/runtime-log.ts";
import { errorBody } from "./http.ts";
import type { TokenLimit } from "./token-limit.ts";

/** How an asking ended. */
export type TokenResult = "handed-out" | "gone" | "unavailable" | "limited";

export type IntegrationsGatewayDeps = {
  ctx: IntegrationsContext;
  auth: RuntimeAuth;
  limit: TokenLimit;
  observe(provider: ProviderId, result: TokenResult): void;
};

const TENANT = "integrationsTenantId";
/** Nothing that is sent is looked at. */
const MAX_BODY_BYTES = 4_096;

/**
 * Mounts `/runtime/<tenant-id>/integrations`: what a tenant's runtime is told of its connections, and `<provider>/token` below it, a
 * short-lived access token and never what renews it. Callers are known by their model key, before anything of the body is read; an
 * unknown tenant looks like a wrong key.
 */
export function registerIntegrations(app: FastifyInstance, deps: IntegrationsGatewayDeps): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "buffer", bodyLimit: MAX_BODY_BYTES }, (_request, _body, done) =>
    done(null),
  );
  app.decorateRequest(TENANT, null);
  app.addHook("onRequest", async (request, reply) => {
    reply.header("cache-control", "no-store");
    const tenantId = await deps.auth.authenticate(paramOf(request, "tenantId"), "model-key", presentedKey(request));
    // The rest of the body is not waited for: the connection ends with the refusal.
    if (tenantId === undefined) {
      return refuse(reply.header("connection", "close"), 401, "unauthorized", "Send your model key as a bearer token.");
    }
    request.setDecorator(TENANT, tenantId);
  });
  app.route({
    ...logsRouteOnly,
    method: "GET",
    url: "/runtime/:tenantId/integrations",
    handler: async (request) => ({ integrations: await listForRuntime(deps.ctx, tenantOf(request)) }),
  });
  app.route({
    ...logsRouteOnly,
    method: ["GET", "POST"],
    url: "/runtime/:tenantId/integrations/:provider/token",
    handler: (request, reply) => giveToken(deps, request, reply),
  });
}

async function giveToken(
  { ctx, limit, observe }: IntegrationsGatewayDeps,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const provider = ctx.providers.find(paramOf(request, "provider"))?.definition;
  if (provider === undefined) return refuse(reply, 404, "provider_unknown", "There is no such provider.");
  const waitMs = await limit.take(tenantOf(request), provider.id);
  if (waitMs > 0) {
    observe(provider.id, "limited");
    return later(reply, 429, "rate_limited", "Too many tokens were asked for. Keep each until it ends.", waitMs);
  }
  const answer = await handOutToken(ctx, tenantOf(request), provider.id, hungUp(reply));
  observe(provider.id, RESULTS[answer.kind]);
  return sendAnswer(ctx, reply, answer, provider.name);
}

const RESULTS = { token: "handed-out", gone: "gone", unavailable: "unavailable" } as const;

function sendAnswer({ clock }: IntegrationsContext, reply: FastifyReply, answer: TokenAnswer, name: string) {
  const now = clock.now().getTime();
  switch (answer.kind) {
    case "token": {
      const { accessToken, expiresAt, scopes, account } = answer;
      return reply.send({
        access_token: accessToken,
        token_type: "Bearer",
        expires_in: expiresAt === null ? null : Math.max(0, Math.floor((expiresAt.getTime() - now) / 1_000)),
        expires_at: expiresAt,
        scope: scopes.join(" "),
        account,
      });
    }
    case "gone": {
      const message = describeAction(answer.state, name) ?? "";
      if (answer.state === "absent") return refuse(reply, 404, "not_connected", message);
      return refuse(reply, 409, `connection_${answer.state.replaceAll("-", "_")}`, message);
    }
    case "unavailable": {
      const message = `${name} gives no token at the moment (${answer.code}). Try again later; nobody has to do anything.`;
      return later(reply, 503, "token_unavailable", message, answer.retryAt.getTime() - now);
    }
  }
}

function later(reply: FastifyReply, status: 429 | 503, code: string, message: string, waitMs: number): FastifyReply {
  return refuse(reply.header("retry-after", String(Math.max(1, Math.ceil(waitMs / 1_000)))), status, code, message);
}

function refuse(reply: FastifyReply, status: number, code: string, message: string): FastifyReply {
  return reply.code(status).send(errorBody(code, message, reply.request.id));
}

/** Aborts when the caller goes away before its answer. */
function hungUp(reply: FastifyReply): AbortSignal {
  const gone = new AbortController();
  reply.raw.once("close", () => gone.abort(new Error("the caller went away")));
  return gone.signal;
}

function tenantOf(request: FastifyRequest): TenantId {
  return request.getDecorator<TenantId>(TENANT);
}

function presentedKey({ headers }: FastifyRequest): string {
  return /^Bearer (.+)$/i.exec(headers.authorization ?? "")?.[1] ?? "";
}

function paramOf(request: FastifyRequest, name: "tenantId" | "provider"): string {
  const { params } = request;
  const value: unknown = typeof params === "object" && params !== null ? Reflect.get(params, name) : undefined;
  return typeof value === "string" ? value : "";
}
