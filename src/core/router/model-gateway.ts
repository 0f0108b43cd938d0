import type { IncomingHttpHeaders } from "node:http";
import type { Readable } from "node:stream";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { type Dispatcher, Pool } from "undici";
import {
  type CallEnd,
  type Ceiling,
  ceilingOf,
  MAX_CALL_MS,
  type Meter,
  type ModelPrice,
  type Refusal,
  type Reservation,
} from "../billing/billing.ts";
import { UpstreamError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import { endsWithin } from "../platform/pause.ts";
import { createBodyMemory, type HeldBody } from "./body-memory.ts";
import {
  isProviderError,
  MODEL_APIS,
  type ModelApi,
  type ModelProvider,
  requestHeaders,
  responseHeaders,
} from "./model-api.ts";
import { refuse, refuseBody, refuseSpending, sendError } from "./model-refusals.ts";
import { boundRequest, readModelRequest, wantsUsage, writeModelRequest } from "./model-request.ts";
import { collectInto, writeAnswer } from "./model-answer.ts";
import { type Passage, passEvents, passEventsUnseen, passWhole } from "./model-stream.ts";
import { createUsageReader, type UsageReader } from "./model-usage.ts";
import type { RuntimeAuth } from "./runtime-auth.ts";
import { logsRouteOnly } from "./runtime-log.ts";

/** Where a provider is reached, with or without `/v1` at the end, and the operator's key for it. */
export type ModelUpstream = { baseUrl: string; apiKey: string };

/** How a model call ended, for whoever counts. */
export type ModelCallResult = CallEnd["kind"] | Refusal["reason"] | "unpriced";

export type ModelGatewayDeps = {
  auth: RuntimeAuth;
  upstreams: { anthropic?: ModelUpstream; openai?: ModelUpstream };
  meter: Meter;
  observe(result: ModelCallResult): void;
};

type Provider = { pool: Pool; prefix: string; keyHeaders: Record<string, string> };
type Gateway = { deps: ModelGatewayDeps; memory: ReturnType<typeof createBodyMemory> };
type Call = Gateway & { api: ModelApi; provider: Provider };

const TENANT = "modelTenantId";
/** A reasoning model may think for long before its first byte, and between two of a stream. */
const MODEL_SILENCE_MS = 15 * 60 * 1000;
/** An answer's end waits so long for what it cost to be written down: the next call, which comes at once, finds the rest of the budget. */
const SETTLE_PATIENCE_MS = 2_000;

/**
 * Mounts `/runtime/<tenant-id>/model` + `/v1/messages`, `/v1/chat/completions` and `/v1/responses`. The tenant's own key is swapped for the
 * operator's. What a call may come to at most is reserved before it is made, and what it has come to is settled when its answer ends,
 * however it ends. Answers stream as they come, and a runtime that hangs up ends the call. A caller is authenticated before its body is
 * read. Refusals have the shape of the API called.
 */
export async function registerModelGateway(app: FastifyInstance, deps: ModelGatewayDeps): Promise<void> {
  const providers: Partial<Record<ModelProvider, Provider>> = {};
  const { anthropic, openai } = deps.upstreams;
  if (anthropic !== undefined) {
    providers.anthropic = createProvider(anthropic, { "x-api-key": anthropic.apiKey });
  }
  if (openai !== undefined) providers.openai = createProvider(openai, { authorization: `Bearer ${openai.apiKey}` });
  const memory = createBodyMemory();

  await app.register(async (scope) => {
    scope.addHook("onClose", async () => {
      await Promise.all(Object.values(providers).map((provider) => provider.pool.close()));
    });
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser("*", (_request, payload, done) => done(null, payload));
    scope.decorateRequest(TENANT, null);
    for (const api of MODEL_APIS) mount(scope, { deps, memory }, api, providers[api.provider]);
  });
}

function mount(scope: FastifyInstance, gateway: Gateway, api: ModelApi, provider: Provider | undefined): void {
  scope.route({
    ...logsRouteOnly,
    method: "POST",
    url: `/runtime/:tenantId/model${api.route}`,
    onRequest: async (request, reply) => {
      const tenantId = await gateway.deps.auth.authenticate(tenantIdOf(request), "model-key", presentedKey(request));
      // The rest of the body is not waited for: the connection ends with the refusal.
      if (tenantId === undefined) {
        return refuse(reply.header("connection", "close"), api, 401, "invalid_api_key", "Invalid API key");
      }
      request.setDecorator(TENANT, tenantId);
    },
    errorHandler: (error, request, reply) => sendError(error, request, reply, api),
    handler: async (request, reply) => {
      if (provider === undefined) {
        const message = `No ${api.provider} account is configured for this service`;
        return refuse(reply.header("connection", "close"), api, 503, "not_configured", message);
      }
      return takeCall({ ...gateway, api, provider }, request, reply);
    },
  });
}

async function takeCall(call: Call, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const held = await call.memory.read(request.getDecorator<TenantId>(TENANT), request);
  if (typeof held === "string") return refuseBody(reply, call.api, held);
  try {
    return await makeCall(call, held, request, reply);
  } finally {
    held.release();
  }
}

/** What is left of a call's body once it is read: whoever waits for a long answer should hold no long prompt meanwhile. */
type Prepared = {
  model: string;
  price: ModelPrice;
  ceiling: Ceiling;
  body: OutgoingBody;
  seesUsage: boolean;
};

/** Gone once it is sent; `isSent` as soon as a connection has begun to take it. */
type OutgoingBody = { bytes: number; stream: Readable; isSent(): boolean };

/** @returns the model's name when it has no price. @throws UsageError. */
function prepareCall({ deps, api }: Call, held: HeldBody): Prepared | string {
  const asked = readModelRequest(api, held.takeText());
  const price = deps.meter.findPrice(asked.model);
  if (price === undefined) return asked.model;
  const text = writeModelRequest(api, asked, price.outputTokens);
  const bounds = boundRequest(asked, Buffer.byteLength(text), price);
  return {
    model: asked.model,
    price,
    ceiling: ceilingOf(bounds, price),
    body: outgoing(text),
    seesUsage: wantsUsage(asked),
  };
}

function outgoing(text: string): OutgoingBody {
  let isSent = false;
  const chunks = (function* () {
    isSent = true;
    yield text;
  })();
  // Undici takes anything that can be iterated over, which its types don't say.
  return { bytes: Buffer.byteLength(text), stream: chunks as unknown as Readable, isSent: () => isSent };
}

/** Resolves when the answer has ended. */
async function makeCall(
  call: Call,
  held: HeldBody,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const { deps, api, provider } = call;
  const prepared = prepareCall(call, held);
  if (typeof prepared === "string") {
    deps.observe("unpriced");
    const message = `This service has no price for the model ${JSON.stringify(prepared)}`;
    return refuse(reply, api, 404, "model_not_found", message);
  }
  const { model, ceiling, body, seesUsage } = prepared;
  const answer = await deps.meter.reserve({ tenantId: request.getDecorator<TenantId>(TENANT), model, ceiling });
  if (answer.kind === "refused") {
    deps.observe(answer.refusal.reason);
    return refuseSpending(reply, api, answer.refusal);
  }
  const settle = createSettlement(deps, answer.reservation);
  const options = {
    method: "POST" as const,
    path: provider.prefix + api.route,
    headers: { ...requestHeaders(request.headers), "content-length": String(body.bytes), ...provider.keyHeaders },
    body: body.stream,
  };
  return passOn({ ...call, seesUsage, settle, options, isSent: body.isSent, onBegin: held.release }, reply);
}

type Exchange = Call & {
  seesUsage: boolean;
  settle: Settle;
  options: Dispatcher.RequestOptions;
  isSent(): boolean;
  /** The provider has taken the request, and begins to answer. */
  onBegin(): void;
};

/** Makes the call and passes its answer on. However that ends, it is settled. */
async function passOn(
  { api, provider, seesUsage, settle, options, isSent, onBegin }: Exchange,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const limits = limitCall(reply);
  if (limits.signal.aborted) {
    limits.end();
    await settle({ kind: "free" });
    return reply;
  }
  const refusal: Buffer[] = [];
  let begun: Begun | undefined;
  let reader: UsageReader | undefined;
  try {
    await provider.pool.stream({ ...options, signal: limits.signal }, ({ statusCode, headers }) => {
      onBegin();
      begun = { statusCode, headers };
      if (statusCode !== 200) return collectInto(refusal);
      const passing = beginAnswer(api, seesUsage, headers, reply);
      reader = passing.reader;
      return writeAnswer(reply.raw, passing.passage, () => settle(passing.reader.end()));
    });
  } catch (cause) {
    void settle(reader?.end() ?? (isSent() ? { kind: "unknown" } : { kind: "free" }));
    if (reader !== undefined) reply.raw.destroy();
    // Nobody is there any more to be told.
    if (reply.raw.destroyed) return reply;
    if (limits.signal.aborted)
      return refuse(reply, api, 504, "model-too-slow", "The model took too long, and the call was ended");
    throw new UpstreamError("model-unreachable", `The model provider (${api.provider}) can't be reached`, {
      service: api.provider,
      retryable: true,
      cause,
    });
  } finally {
    limits.end();
  }
  return begun === undefined || reader !== undefined
    ? reply
    : sendRefusal(api, { ...begun, text: Buffer.concat(refusal).toString() }, settle, reply);
}

type Begun = Pick<Dispatcher.StreamFactoryData, "statusCode" | "headers">;

type Settle = (end: CallEnd) => Promise<void>;

/** Settles once, whoever comes first. */
function createSettlement({ meter, observe }: ModelGatewayDeps, reservation: Reservation): Settle {
  let settled: Promise<void> | undefined;
  return async (end) => {
    if (settled === undefined) {
      observe(end.kind);
      settled = meter.settle(reservation, end);
    }
    await endsWithin(SETTLE_PATIENCE_MS, settled);
  };
}

/** Begins the caller's answer, past the framework: each piece of it should pass through as few hands as possible. */
function beginAnswer(
  api: ModelApi,
  seesUsage: boolean,
  headers: IncomingHttpHeaders,
  reply: FastifyReply,
): { reader: UsageReader; passage: Passage } {
  const isStream = /^text\/event-stream/i.test(String(headers["content-type"]));
  const hidesUsage = isStream && api.route === "/v1/chat/completions" && !seesUsage;
  const reader = createUsageReader(api, isStream);
  const passage = (!isStream ? passWhole : hidesUsage ? passEventsUnseen : passEvents)(reader);
  reply.hijack();
  const own = Object.entries(reply.getHeaders()).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, value]],
  );
  const passed = responseHeaders(hidesUsage ? withoutLength(headers) : headers);
  reply.raw.writeHead(200, { ...Object.fromEntries(own), ...passed });
  return { reader, passage };
}

/** An error in the provider's own words cost nothing; what somebody on the way says, tells nothing of what became of the call. */
async function sendRefusal(
  api: ModelApi,
  { statusCode, headers, text }: Begun & { text: string },
  settle: Settle,
  reply: FastifyReply,
): Promise<FastifyReply> {
  await settle(isProviderError(api.provider, text) ? { kind: "free" } : { kind: "unknown" });
  return reply
    .code(statusCode)
    .headers(responseHeaders(withoutLength(headers)))
    .send(text);
}

function withoutLength({ "content-length": _length, ...headers }: IncomingHttpHeaders): IncomingHttpHeaders {
  return headers;
}

/** A signal that ends the upstream call when the runtime goes away before the answer is complete, or it takes too long. */
function limitCall(reply: FastifyReply): { signal: AbortSignal; end(): void } {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), MAX_CALL_MS).unref();
  // It may have gone while its call waited for its turn.
  if (reply.raw.destroyed) controller.abort();
  reply.raw.once("close", () => {
    if (!reply.raw.writableFinished) controller.abort();
  });
  return { signal: controller.signal, end: () => clearTimeout(timer) };
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
