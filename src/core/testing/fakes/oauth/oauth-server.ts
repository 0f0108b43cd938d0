import { randomBytes } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { type Clock, systemClock } from "../../../platform/clock.ts";
import { createRecording, readBody, startLoopback } from "../loopback.ts";
import { type ConsentAsk, consentPage, problemOf, readAsk } from "./consent.ts";
import { createFaults, type Endpoint, fail, type Hold, json, type OAuthFault, send, type WireReply } from "./faults.ts";
import { createGrants, type Grant, type GrantRules, type Issued, type Person } from "./grants.ts";
import { type Claims, publicKeys } from "./id-tokens.ts";
import {
  answerRevoke,
  answerToken,
  authenticate,
  type Desk,
  INVALID_CLIENT,
  type RegisteredClient,
} from "./token-endpoint.ts";

export type OAuthProviderOptions = Partial<GrantRules> & {
  clock?: Clock;
  clients?: readonly { id: string; secret?: string; redirectUris?: readonly string[] }[];
  people?: readonly Person[];
  /** Every consent is given at once, by the first of the people and to all that is asked. */
  autoConsent?: boolean;
};

export type OAuthRequest = {
  method: string;
  path: string;
  /** Of the form or, without one, of the address. */
  parameters: URLSearchParams;
  authorization: string | undefined;
  clientId: string | undefined;
};

/** What a person does at the page of consent: agrees, to all that is asked unless `scopes` are named, or declines. */
export type Decision = { subject?: string; scopes?: readonly string[]; deny?: boolean };

export type OAuthProvider = {
  /** Also its issuer. */
  url: string;
  authorizeUrl: string;
  tokenUrl: string;
  revokeUrl: string;
  /** Tells whose the access token is: GET with it as bearer. */
  meUrl: string;
  /** Every request, as it came. */
  requests: OAuthRequest[];
  waitFor(accepts: (request: OAuthRequest) => boolean, timeoutMs?: number): Promise<OAuthRequest>;
  /** Submits the page at `authorizationUrl` as a person would. @returns where the browser is sent. */
  consent(authorizationUrl: URL, decision?: Decision): URL;
  /** Tokens of a consent that was given before. */
  grant(consent?: { clientId?: string; subject?: string; scopes?: readonly string[] }): Issued & { grant: Grant };
  /** In the order of their consents. */
  grants: readonly Grant[];
  /** Undefined for an access token that gives no access. */
  holderOf(accessToken: string): { person: Person; scopes: string[]; grant: Grant } | undefined;
  /** As a person does in the settings of their account. */
  endGrantsOf(subject: string): void;
  addPerson(person: Person): void;
  setClient(client: { id: string; secret?: string; redirectUris?: readonly string[] }): void;
  removeClient(id: string): void;
  failNext(endpoint: Endpoint, fault: OAuthFault, times?: number): void;
  clearFaults(): void;
  hold(endpoint: Endpoint, when: "before" | "after"): Hold;
  /** The claims of the next id token; undefined: there is none. */
  alterNextIdToken(alter: (claims: Claims) => Claims | undefined): void;
  close(): Promise<void>;
};

export const LOOPBACK_CLIENT = { id: "loopback-client", secret: "loopback-client-secret" };
export const ANN: Person = { subject: "1001", email: "ann@example.com", isEmailVerified: true };

const RULES: GrantRules = {
  manner: "plain",
  rotates: false,
  leewayMs: 0,
  accessTokenSeconds: 3_600,
  maxRefreshTokens: 100,
};

/** An authorization server on loopback, with PKCE, id tokens and revocation; by default grants are apart and nothing rotates. */
export async function startOAuthProvider(options: OAuthProviderOptions = {}): Promise<OAuthProvider> {
  const { clock = systemClock, clients = [LOOPBACK_CLIENT], autoConsent = false } = options;
  const rules = { ...RULES, ...options };
  const people = [...(options.people ?? [ANN])];
  const faults = createFaults();
  const recording = createRecording<OAuthRequest>();
  let alteration: ((claims: Claims) => Claims | undefined) | undefined;
  const desk: Desk = {
    grants: createGrants(rules, clock),
    clients: new Map(clients.map((client) => [client.id, registered(client)])),
    codes: new Map(),
    clock,
    issuer: () => server.url,
    isGoogle: rules.manner === "google",
    accessTokenSeconds: rules.accessTokenSeconds,
    takeAlteration() {
      const taken = alteration;
      alteration = undefined;
      return taken;
    },
  };
  const server = await startLoopback((request, response) =>
    serve({ desk, people, faults, recording, autoConsent }, request, response),
  );
  return {
    url: server.url,
    authorizeUrl: `${server.url}/authorize`,
    tokenUrl: `${server.url}/token`,
    revokeUrl: `${server.url}/revoke`,
    meUrl: `${server.url}/me`,
    requests: recording.entries,
    waitFor: recording.waitFor,
    consent(url, decision) {
      const ask = readAsk(url.searchParams);
      const refusal = refuseAsk(desk, ask);
      if (refusal !== undefined) throw new Error(`The page says: ${refusal.body}`);
      return decide({ desk, people }, ask, decision);
    },
    grant({ clientId = clients[0]?.id ?? "", subject, scopes = ["openid", "email"] } = {}) {
      const grant = desk.grants.open(clientId, personOf(people, subject), scopes);
      return { ...desk.grants.issue(grant, scopes, { withRefreshToken: true }), grant };
    },
    grants: desk.grants.all,
    holderOf: desk.grants.holderOf,
    endGrantsOf(subject) {
      for (const grant of desk.grants.all) if (grant.person.subject === subject) desk.grants.end(grant);
    },
    addPerson: (person) => void people.push(person),
    setClient: (client) => void desk.clients.set(client.id, registered(client)),
    removeClient: (id) => void desk.clients.delete(id),
    failNext: (endpoint, fault, times = 1) => faults.failNext(endpoint, fault, times),
    clearFaults: faults.clear,
    hold: faults.hold,
    alterNextIdToken(alter) {
      alteration = alter;
    },
    close: server.close,
  };
}

type World = {
  desk: Desk;
  people: Person[];
  faults: ReturnType<typeof createFaults>;
  recording: ReturnType<typeof createRecording<OAuthRequest>>;
  autoConsent: boolean;
};

async function serve(world: World, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { desk, faults, recording } = world;
  const { method = "GET", headers } = request;
  const { pathname, searchParams } = new URL(request.url ?? "/", desk.issuer());
  const form = method === "POST" ? new URLSearchParams((await readBody(request)).toString()) : searchParams;
  const client = authenticate(desk, headers, form);
  const clientId = client?.id ?? form.get("client_id") ?? undefined;
  recording.add({ method, path: pathname, parameters: form, authorization: headers.authorization, clientId });
  const endpoint = ENDPOINTS[`${method} ${pathname}`];
  if (endpoint === undefined) return send(response, answerPublic(desk, pathname));
  await faults.pass(endpoint, "before");
  const fault = faults.take(endpoint);
  const isUndone = typeof fault === "object" || fault === "reset" || fault === "hang";
  const reply = isUndone ? undefined : answer(world, endpoint, { client, form, query: searchParams, method, headers });
  await faults.pass(endpoint, "after");
  if (fault !== undefined) return fail(response, fault, reply);
  if (reply !== undefined) send(response, reply);
}

const ENDPOINTS: Record<string, Endpoint> = {
  "POST /token": "token",
  "POST /revoke": "revoke",
  "GET /authorize": "authorize",
  "POST /authorize": "authorize",
  "GET /me": "me",
};

type Incoming = Pick<IncomingMessage, "headers"> & {
  client: RegisteredClient | undefined;
  form: URLSearchParams;
  query: URLSearchParams;
  method: string;
};

function answer(world: World, endpoint: Endpoint, { client, form, query, method, headers }: Incoming): WireReply {
  const { desk, people, autoConsent } = world;
  switch (endpoint) {
    case "token":
      return client === undefined ? INVALID_CLIENT : answerToken(desk, client, form);
    case "revoke":
      return answerRevoke(desk, client, form);
    case "authorize": {
      const refusal = refuseAsk(desk, readAsk(query));
      if (refusal !== undefined) return refusal;
      if (method === "GET" && !autoConsent) return page(readAsk(query), people, query);
      return redirect(decide(world, readAsk(query), method === "GET" ? {} : decisionIn(form)));
    }
    case "me": {
      const holder = desk.grants.holderOf(/^Bearer (.+)$/.exec(headers.authorization ?? "")?.[1] ?? "");
      if (holder === undefined) return json(401, { error: "invalid_token" });
      return json(200, { sub: holder.person.subject, email: holder.person.email, scopes: holder.scopes });
    }
  }
}

function answerPublic(desk: Desk, pathname: string): WireReply {
  const issuer = desk.issuer();
  if (pathname === "/jwks") return json(200, publicKeys());
  if (pathname !== "/.well-known/openid-configuration") return json(404, { error: "not_found" });
  return json(200, {
    issuer,
    authorization_endpoint: `${issuer}/authorize`,
    token_endpoint: `${issuer}/token`,
    revocation_endpoint: `${issuer}/revoke`,
    jwks_uri: `${issuer}/jwks`,
    authorization_response_iss_parameter_supported: true,
  });
}

/** With a client or an address that isn't known, nobody may be sent anywhere. */
function refuseAsk({ clients }: Desk, { clientId, redirectUri }: ConsentAsk): WireReply | undefined {
  const client = clients.get(clientId);
  if (client === undefined) return json(401, { error: "invalid_client" });
  const isKnown = client.redirectUris?.includes(redirectUri) ?? URL.canParse(redirectUri);
  return isKnown ? undefined : json(400, { error: "redirect_uri_mismatch" });
}

function page(ask: ConsentAsk, people: readonly Person[], query: URLSearchParams): WireReply {
  const body = consentPage(ask, ask.clientId, people, query.toString());
  return { status: 200, headers: { "content-type": "text/html; charset=utf-8" }, body };
}

function redirect(to: URL): WireReply {
  return { status: 302, headers: { location: to.href, "cache-control": "no-store" } };
}

function decisionIn(form: URLSearchParams): Decision {
  const subject = form.get("subject");
  const choice = { scopes: form.getAll("scope"), deny: form.get("decision") !== "allow" };
  return subject === null ? choice : { ...choice, subject };
}

function decide({ desk, people }: Pick<World, "desk" | "people">, ask: ConsentAsk, decision: Decision = {}): URL {
  const to = new URL(ask.redirectUri);
  if (ask.state !== null) to.searchParams.set("state", ask.state);
  to.searchParams.set("iss", desk.issuer());
  const problem = decision.deny === true ? "access_denied" : problemOf(ask);
  if (problem !== undefined) {
    to.searchParams.set("error", problem);
    return to;
  }
  const scopes = ask.scopes.filter((scope) => decision.scopes?.includes(scope) ?? true);
  const known = desk.grants.all.length;
  const grant = desk.grants.open(ask.clientId, personOf(people, decision.subject), scopes);
  const code = randomBytes(24).toString("base64url");
  const isNew = desk.grants.all.length > known;
  desk.codes.set(code, { grant, ask, scopes, isNew, issuedAt: desk.clock.now(), isSpent: false });
  to.searchParams.set("code", code);
  return to;
}

function personOf(people: readonly Person[], subject: string | undefined): Person {
  const found = subject === undefined ? people[0] : people.find((person) => person.subject === subject);
  if (found === undefined) throw new Error(`Nobody here is ${subject}`);
  return found;
}

function registered(client: { id: string; secret?: string; redirectUris?: readonly string[] }): RegisteredClient {
  return { id: client.id, secret: client.secret, redirectUris: client.redirectUris };
}
