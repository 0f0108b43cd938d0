import { Readable } from "node:stream";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { Pool } from "undici";
import { UpstreamError, UsageError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import {
  MODEL_APIS,
  type ModelApi,
  modelError,
  type ModelProvider,
  requestHeaders,
  responseHeaders,
} from "./model-api.ts";
import type { RuntimeAuth } from "./runtime-auth.ts";
import { logsRouteOnly } from "./runtime-log.ts";

/** Where a provider is reached, with or without `/v1` at the end, and the operator's key for it. */
export type ModelUpstream = { baseUrl: string; apiKey: string };

export type Admission = { ok: true } | { ok: false; status: number; code: string; message: string };

export type ModelGatewayDeps = {
  auth: RuntimeAuth;
  upstreams: { anthropic?: ModelUpstream; openai?: ModelUpstream };
  /** Whether the tenant may call a model now. A refusal is passed on in the provider's shape, and is not to be retried. */
  admit(tenantId: TenantId): Promise<Admission>;
};

type Provider = { pool: Pool; prefix: string; keyHeaders: Record<string, string> };

const TENANT = "modelTenantId";
const MAX_BODY_BYTES = 32 * 1024 * 1024;
/** A reasoning model may think for long before its first byte, and between two of a stream. */
const MODEL_SILENCE_MS = 15 * 60 * 1000;

/**
 * Mounts `/runtime/<tenant-id>/model` + `/v1/messages`, `/v1/chat/completions` and `/v1/responses`. The tenant's own key is swapped for the
 * operator's; bodies stream both ways as they are, and a runtime that hangs up ends the call. A caller is authenticated before its body is
 * read. Refusals have the shape of the API called.
 */
export async function registerModelGateway(app: FastifyInstance, deps: ModelGatewayDeps): Promise<void> {
  const providers: Partial<Record<ModelProvider, Provider>> = {};
  const { anthropic, openai } = deps.upstreams;
  if (anthropic !== undefined) {
    providers.anthropic = createProvider(anthropic, { "x-api-key": anthropic.apiKey });
  }
  if (openai !== undefined) providers.openai = createProvider(openai, { authorization: `Bearer ${openai.apiKey}` });

  await app.register(async (scope) => {
    scope.addHook("onClose", async () => {
      await Promise.all(Object.values(providers).map((provider) => provider.pool.close()));
    });
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser("*", (_request, payload, done) => done(null, payload));
    scope.decorateRequest(TENANT, null);
    for (const api of MODEL_APIS) mount(scope, deps, api, providers[api.provider]);
  });
}

function mount(scope: FastifyInstance, deps: ModelGatewayDeps, api: ModelApi, provider: Provider | undefined): void {
  scope.route({
    ...logsRouteOnly,
    method: "POST",
    url: `/runtime/:tenantId/model${api.route}`,
    onRequest: async (request, reply) => {
      const tenantId = await deps.auth.authenticate(tenantIdOf(request), "model-key", presentedKey(request));
      // The rest of the body is not waited for: the connection ends with the refusal.
      if (tenantId === undefined) {
        return refuse(reply.header("connection", "close"), api, 401, "invalid_api_key", "Invalid API key");
      }
      request.setDecorator(TENANT, tenantId);
    },
    errorHandler: (error, request, reply) => sendError(error, request, reply, api),
    handler: (request, reply) => forward({ deps, api, provider }, request, reply),
  });
}

async function forward(
  { deps, api, provider }: { deps: ModelGatewayDeps; api: ModelApi; provider: Provider | undefined },
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const admission = await deps.admit(request.getDecorator<TenantId>(TENANT));
  if (!admission.ok) {
    const { status, code, message } = admission;
    return refuse(reply.header("x-should-retry", "false").header("connection", "close"), api, status, code, message);
  }
  if (provider === undefined) {
    return refuse(reply, api, 503, "not_configured", `No ${api.provider} account is configured for this service`);
  }
  if (Number(request.headers["content-length"] ?? 0) > MAX_BODY_BYTES) throw tooLarge();

  const { statusCode, headers, body } = await reachProvider(api, () =>
    provider.pool.request({
      method: "POST",
      path: provider.prefix + api.route,
      headers: { ...requestHeaders(request.headers), ...provider.keyHeaders },
      body: request.body instanceof Readable ? Readable.from(atMost(request.body, MAX_BODY_BYTES)) : null,
      signal: abortOnHangUp(reply),
    }),
  );
  return reply.code(statusCode).headers(responseHeaders(headers)).send(body);
}

/** A signal that ends the upstream call when the runtime goes away before the response is complete. */
function abortOnHangUp(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  reply.raw.once("close", () => {
    if (!reply.raw.writableFinished) controller.abort();
  });
  return controller.signal;
}

async function* atMost(stream: Readable, maxBytes: number): AsyncGenerator<Buffer> {
  let size = 0;
  for await (const chunk of stream) {
    const bytes = Buffer.from(chunk);
    size += bytes.length;
    if (size > maxBytes) throw tooLarge();
    yield bytes;
  }
}

function tooLarge(): UsageError {
  return new UsageError("too-large", `The request is larger than ${MAX_BODY_BYTES} bytes`);
}

async function reachProvider<Result>({ provider }: ModelApi, attempt: () => Promise<Result>): Promise<Result> {
  try {
    return await attempt();
  } catch (cause) {
    if (cause instanceof UsageError) throw cause;
    throw new UpstreamError("model-unreachable", `The model provider (${provider}) can't be reached`, {
      service: provider,
      retryable: true,
      cause,
    });
  }
}

function createProvider({ baseUrl }: ModelUpstream, keyHeaders: Record<string, string>): Provider {
  const base = new URL(baseUrl);
  // Some SDKs want `/v1` in the base URL and some don't, so operators write both.
  const prefix = base.pathname.replace(/\/+$/, "").replace(/\/v1$/, "");
  const pool = new Pool(base.origin, {
    connections: 256,
    headersTimeout: MODEL_SILENCE_MS,
    bodyTimeout: MODEL_SILENCE_MS,
  });
  return { pool, prefix, keyHeaders };
}

function tenantIdOf({ params }: FastifyRequest): string {
  return typeof params === "object" && params !== null && "tenantId" in params ? String(params.tenantId) : "";
}

function presentedKey({ headers }: FastifyRequest): string {
  const apiKey = headers["x-api-key"];
  return typeof apiKey === "string" ? apiKey : (headers.authorization?.replace(/^Bearer +/i, "") ?? "");
}

function refuse(reply: FastifyReply, api: ModelApi, status: number, code: string, message: string): FastifyReply {
  return reply.code(status).send(modelError(api.provider, status, code, message));
}

function sendError(error: unknown, request: FastifyRequest, reply: FastifyReply, api: ModelApi): FastifyReply {
  if (error instanceof UsageError)
    return refuse(reply.header("connection", "close"), api, 413, error.code, error.message);
  if (error instanceof UpstreamError) {
    request.log.warn({ err: error }, "Model call failed");
    return refuse(reply, api, 502, error.code, error.message);
  }
  request.log.error({ err: error }, "Model gateway failed");
  return refuse(reply, api, 500, "internal_error", "Internal error");
}
