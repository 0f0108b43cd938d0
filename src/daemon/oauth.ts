import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import {
  beginConnect,
  connectRedirectUri,
  findOffer,
  finishConnect,
  type IntegrationsContext,
} from "../core/integrations/integrations.ts";
import type { ProviderId } from "../core/platform/ids.ts";
import { flowCookie } from "./oauth-cookie.ts";
import { type Page, pageHeaders } from "./oauth-page.ts";
import { connectedPage, offerPage, refusalPage } from "./oauth-texts.ts";

type Deps = {
  ctx: IntegrationsContext;
  /** Where people reach this listener, without a trailing slash; what a request says of its host counts for nothing. */
  publicUrl: () => string;
};

/** A form of ours has one field of 43 characters. */
const MAX_FORM_BYTES = 4_096;
/** More than a provider's answer ever has. */
const MAX_QUERY_LENGTH = 8_192;
/** What has been sent to a provider by then is still waited for. */
const PATIENCE_MS = 25_000;
const START = "/oauth/:provider/start";
const CALLBACK = "/oauth/:provider/callback";

/**
 * The pages by which people connect an account: GET of the start shows what a link offers, POST begins and leads to the provider, and
 * the provider leads back to the callback. Nobody is ever led anywhere else.
 */
export async function registerOAuth(app: FastifyInstance, deps: Deps): Promise<void> {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(
    "application/x-www-form-urlencoded",
    { parseAs: "string", bodyLimit: MAX_FORM_BYTES },
    (_request, body, done) => done(null, new URLSearchParams(String(body))),
  );
  app.setErrorHandler((error: FastifyError, request, reply) => sendFailure(deps, error, request, reply));
  app.get(START, (request, reply) => showOffer(deps, request, reply));
  app.post(START, (request, reply) => begin(deps, request, reply));
  app.get(CALLBACK, { exposeHeadRoute: false }, (request, reply) => finish(deps, request, reply));
  // Whoever only looks whether there is a page must not use up what it counts on.
  app.head(CALLBACK, (_request, reply) =>
    reply
      .code(405)
      .headers({ ...pageHeaders(), allow: "GET" })
      .send(),
  );
}

async function showOffer({ ctx }: Deps, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const token = queryOf(request)?.get("link");
  if (token === undefined || token === null) return send(reply, refusalPage({ kind: "link-unknown" }));
  const found = await findOffer(ctx, providerOf(request), token);
  if (found.kind !== "offer") return send(reply, refusalPage(found));
  return send(reply, offerPage(found.offer, token), originOf(found.offer.provider.authorizeUrl));
}

async function begin(deps: Deps, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const publicUrl = deps.publicUrl();
  if (!isFromOurPage(request, publicUrl)) return send(reply, refusalPage({ kind: "cross-site" }));
  const token = request.body instanceof URLSearchParams ? request.body.get("link") : null;
  if (token === null) return send(reply, refusalPage({ kind: "malformed" }));
  const providerId = providerOf(request);
  const begun = await beginConnect(deps.ctx, providerId, token, {
    redirectUri: connectRedirectUri(publicUrl, providerId),
  });
  if (begun.kind !== "begun") return send(reply, refusalPage(begun));
  const { url, state, nonce } = begun;
  return reply
    .code(303)
    .headers({ ...pageHeaders(), location: url.href, "set-cookie": flowCookie(publicUrl, state).set(nonce) })
    .send("");
}

async function finish(deps: Deps, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const publicUrl = deps.publicUrl();
  const answer = queryOf(request);
  const [state, another] = answer?.getAll("state") ?? [];
  if (answer === undefined || state === undefined || another !== undefined)
    return send(reply, refusalPage({ kind: "state-unknown" }));
  const providerId = providerOf(request);
  const cookie = flowCookie(publicUrl, state);
  const nonce = cookie.read(request.headers.cookie);
  // Whatever comes of it: it counts once.
  if (nonce !== undefined) reply.header("set-cookie", cookie.clear());
  const outcome = await finishConnect(
    { ...deps.ctx, actor: { name: "subscriber", requestId: request.id } },
    providerId,
    {
      answer,
      state,
      nonce,
      redirectUri: connectRedirectUri(publicUrl, providerId),
      signal: AbortSignal.timeout(PATIENCE_MS),
    },
  );
  return send(reply, outcome.kind === "connected" ? connectedPage(outcome) : refusalPage(outcome));
}

/**
 * Somebody else's page could make a browser begin for a link of theirs, and the person would give them access. Browsers say where a
 * form comes from; what is no browser has no person to be led astray.
 */
function isFromOurPage({ headers }: FastifyRequest, publicUrl: string): boolean {
  const site = headers["sec-fetch-site"];
  if (site !== undefined) return site === "same-origin";
  return headers.origin === undefined || headers.origin === new URL(publicUrl).origin;
}

/** Undefined for more than anybody of ours, or a provider, would ask with. */
function queryOf({ raw }: FastifyRequest): URLSearchParams | undefined {
  const { url = "" } = raw;
  const start = url.indexOf("?");
  if (start === -1) return new URLSearchParams();
  return url.length > MAX_QUERY_LENGTH ? undefined : new URLSearchParams(url.slice(start));
}

/** Whether there is such a provider is looked up with it. */
function providerOf({ params }: FastifyRequest): ProviderId {
  return (params as { provider: string }).provider as ProviderId;
}

/** A policy names origins without https alone: those of loopback. */
function originOf(url: string): string | undefined {
  const { protocol, origin } = new URL(url);
  return protocol === "https:" ? undefined : origin;
}

function send(reply: FastifyReply, page: Page, formTarget?: string): FastifyReply {
  return reply.code(page.status).headers(pageHeaders(formTarget)).send(page.html);
}

function sendFailure({ ctx }: Deps, error: FastifyError, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const { statusCode } = error;
  if (statusCode !== undefined && statusCode < 500)
    return send(reply, { ...refusalPage({ kind: "malformed" }), status: statusCode });
  ctx.log.error({ error, route: request.routeOptions.url, requestId: request.id, status: 503 }, "request failed");
  return send(reply, refusalPage({ kind: "failed", requestId: request.id }));
}
