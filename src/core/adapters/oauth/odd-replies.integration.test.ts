import assert from "node:assert/strict";
import test from "node:test";
import type { OAuthFault, WireReply } from "../../testing/fakes/oauth/faults.ts";
import { LOOPBACK_CLIENT } from "../../testing/fakes/oauth/oauth-server.ts";
import { createOAuthClient } from "./oauth-client.ts";
import { definitionOf, NEVER, setUp } from "./test-setup.ts";

function json(status: number, body: unknown, headers: Record<string, string> = {}): WireReply {
  return { status, headers: { "content-type": "application/json", ...headers }, body: JSON.stringify(body) };
}

function refused(status: number, error: string, description?: string, more: object = {}): WireReply {
  return json(status, { error, ...(description === undefined ? {} : { error_description: description }), ...more });
}

function html(status: number, headers: Record<string, string> = {}): WireReply {
  return {
    status,
    headers: { "content-type": "text/html; charset=utf-8", ...headers },
    body: "<!doctype html><h1>Sorry</h1>",
  };
}

function passing(code: string, retryAfterMs?: number) {
  return { kind: "unavailable", code, retryAfterMs };
}

const DEAD = { kind: "dead", code: "invalid_grant" };
const REAUTH = { kind: "dead", code: "reauth_required" };
const client = (code: string) => ({ kind: "client", code });

/** Each was seen of Google or Keycloak, or is what a proxy, an outage or a careless provider may answer. */
const REFUSALS: readonly [string, OAuthFault, object][] = [
  ["a dead grant", refused(400, "invalid_grant", "Token has been expired or revoked."), DEAD],
  ["a dead grant in other words", refused(400, "invalid_grant", "Session not active"), DEAD],
  ["a dead grant without words", refused(400, "invalid_grant"), DEAD],
  ["a session that wants its person", refused(400, "invalid_grant", "reauth related error (invalid_rapt)"), REAUTH],
  ["the same by its subtype", refused(400, "invalid_grant", "Bad Request", { error_subtype: "invalid_rapt" }), REAUTH],
  ["the same in other words", refused(400, "invalid_grant", "a ReAuth error"), REAUTH],
  [
    "a client that is not known",
    refused(401, "invalid_client", "The OAuth client was not found."),
    client("invalid_client"),
  ],
  ["a client's wrong secret", refused(401, "invalid_client", "Unauthorized"), client("invalid_client")],
  ["the same under 400", refused(400, "invalid_client"), client("invalid_client")],
  ["a client that may not", refused(401, "unauthorized_client", "not for these scopes"), client("unauthorized_client")],
  ["a client that was deleted", refused(401, "deleted_client", "It was deleted."), client("deleted_client")],
  ["an internal failure under 400", refused(400, "internal_failure"), passing("internal_failure")],
  [
    "an internal failure in words alone",
    json(400, { error_description: "internal_failure" }),
    passing("unknown_refusal"),
  ],
  ["an error under 200", refused(200, "server_error"), passing("server_error")],
  ["a dead grant under 200", refused(200, "invalid_grant"), passing("malformed_reply")],
  ["a dead grant under 500", refused(500, "invalid_grant"), passing("server_error")],
  ["a refused client under 503", refused(503, "invalid_client"), passing("server_error")],
  ["an error beside a token", json(200, { error: "server_error", access_token: "a" }), passing("server_error")],
  ["a dead grant in an array", json(400, [{ error: "invalid_grant" }]), passing("unknown_refusal")],
  ["a dead grant in capitals", refused(400, "INVALID_GRANT"), passing("unknown_refusal")],
  ["an error that is an object", json(400, { error: { status: "invalid_grant" } }), passing("unknown_refusal")],
  ["a word that is not known", refused(400, "consent_withdrawn"), passing("unknown_refusal")],
  ["the same under 403", refused(403, "org_internal"), passing("unknown_refusal")],
  ["a page under 200", html(200), passing("malformed_reply")],
  ["a page under 400", html(400), passing("unknown_refusal")],
  ["a page under 502", html(502), passing("server_error")],
  ["a redirect", html(302, { location: "https://elsewhere.example/sorry" }), passing("redirected")],
  ["a redirect that keeps the method", html(307, { location: "/token" }), passing("redirected")],
  ["no content", { status: 204 }, passing("malformed_reply")],
  ["an empty body", { status: 200, body: "" }, passing("malformed_reply")],
  ["half of a body", { status: 200, body: '{"access_token":"abc' }, passing("malformed_reply")],
  ["a list", json(200, ["access_token"]), passing("malformed_reply")],
  ["nothing in JSON", json(200, null), passing("malformed_reply")],
  ["a body beyond measure", json(200, { access_token: "a", padding: "x".repeat(300_000) }), passing("malformed_reply")],
  ["no access token", json(200, { token_type: "Bearer", expires_in: 3_600 }), passing("no_access_token")],
  ["an empty access token", json(200, { access_token: "", token_type: "Bearer" }), passing("no_access_token")],
  ["an access token of two lines", json(200, { access_token: "a\r\nb" }), passing("no_access_token")],
  ["an access token that is a number", json(200, { access_token: 7 }), passing("no_access_token")],
  ["tokens of another type", json(200, { access_token: "a", token_type: "mac" }), passing("wrong_token_type")],
  ["too many requests", json(429, {}, { "retry-after": "30" }), passing("rate_limited", 30_000)],
  [
    "the same until a date",
    json(429, {}, { "retry-after": "Sat, 04 May 2030 12:02:00 GMT" }),
    passing("rate_limited", 120_000),
  ],
  [
    "the same until a date that is past",
    json(429, {}, { "retry-after": "Sat, 04 May 2030 11:00:00 GMT" }),
    passing("rate_limited"),
  ],
  ["a pause that makes no sense", json(503, {}, { "retry-after": "soon" }), passing("server_error")],
  ["an outage", html(503, { "retry-after": "5" }), passing("server_error", 5_000)],
  ["an outage with its word", refused(503, "temporarily_unavailable"), passing("temporarily_unavailable")],
  ["a status that isn't one", { status: 799, body: "" }, passing("malformed_reply")],
  ["a connection that breaks", "reset", passing("connection_lost")],
];

test("every refusal of a refresh has its class, and nobody is disconnected over what isn't known (F73)", async (t) => {
  const { client, provider } = await setUp(t);
  const { refreshToken = "", grant } = provider.grant();
  for (const [name, fault, expected] of REFUSALS) {
    provider.failNext("token", fault);
    assert.deepEqual(await client.refresh(refreshToken, NEVER), expected, name);
  }
  assert.equal(provider.requests.length, REFUSALS.length);
  assert.equal((await client.refresh(refreshToken, NEVER)).kind, "granted");
  assert.equal(grant.isAlive, true);
});

test("what can be done without is made good in a reply that holds an access token", async (t) => {
  const { client, provider } = await setUp(t);
  const replyTo = async (fields: Record<string, unknown>) => {
    provider.failNext("token", json(200, { access_token: "abc123", ...fields }));
    const result = await client.refresh("refresh-any", NEVER);
    assert.ok(result.kind === "granted", JSON.stringify(fields));
    return result.reply;
  };
  const bare = { accessToken: "abc123", expiresInSeconds: undefined, refreshToken: undefined, scopes: undefined };
  assert.deepEqual(await replyTo({}), bare);
  assert.deepEqual(await replyTo({ token_type: "bearer", error: null, id_token: "of no use here" }), bare);
  for (const [said, seconds] of [
    [1, 1],
    ["3599", 3_599],
    [3_599.9, 3_599],
    [-5, undefined],
    [0, undefined],
    ["soon", undefined],
    [null, undefined],
    [1e300, 366 * 86_400],
  ] as const)
    assert.deepEqual(await replyTo({ expires_in: said }), { ...bare, expiresInSeconds: seconds }, String(said));
  for (const refreshToken of ["", null, 7, {}]) assert.deepEqual(await replyTo({ refresh_token: refreshToken }), bare);
  assert.equal((await replyTo({ refresh_token: "1//new" })).refreshToken, "1//new");
  const [email, profile] = ["email", "profile"].map((name) => `https://www.googleapis.com/auth/userinfo.${name}`);
  assert.deepEqual((await replyTo({ scope: `openid ${profile}  z.read ${email} email` })).scopes, [
    "email",
    "openid",
    "profile",
    "z.read",
  ]);
  for (const scope of ["", " ", null, ["email"]]) assert.equal((await replyTo({ scope })).scopes, undefined);
});

test("a provider that is silent, that breaks off or that is not there is unavailable", async (t) => {
  const { provider, clock, client } = await setUp(t);
  const { refreshToken = "" } = provider.grant();
  const hasty = createOAuthClient(definitionOf(provider), LOOPBACK_CLIENT, { clock, timeoutMs: 100 });
  for (const fault of ["hang", "mute"] as const) {
    provider.failNext("token", fault);
    assert.deepEqual(await hasty.refresh(refreshToken, NEVER), passing("timeout"), fault);
  }
  for (const fault of ["lost", "cut"] as const) {
    provider.failNext("token", fault);
    assert.deepEqual(await client.refresh(refreshToken, NEVER), passing("connection_lost"), fault);
  }
  const nowhere = { url: "http://127.0.0.1:1" };
  const gone = createOAuthClient(definitionOf(nowhere), LOOPBACK_CLIENT, { clock });
  assert.deepEqual(await gone.refresh(refreshToken, NEVER), passing("unreachable"));
});

test("of a revocation, only a yes or a token that is over counts as revoked (F77)", async (t) => {
  const { client: oauthClient, provider } = await setUp(t);
  const replies: readonly [OAuthFault, object][] = [
    [{ status: 200, body: "" }, { kind: "revoked" }],
    [{ status: 204 }, { kind: "revoked" }],
    [html(200), { kind: "revoked" }],
    [refused(400, "invalid_token"), { kind: "revoked" }],
    [refused(400, "invalid_grant"), { kind: "revoked" }],
    [refused(401, "invalid_client"), client("invalid_client")],
    [refused(400, "unsupported_token_type"), passing("unsupported_token_type")],
    [refused(503, "invalid_token"), passing("server_error")],
    [html(503, { "retry-after": "120" }), passing("server_error", 120_000)],
    [refused(200, "server_error"), passing("server_error")],
    [html(302, { location: "/elsewhere" }), passing("redirected")],
    ["reset", passing("connection_lost")],
  ];
  for (const [fault, expected] of replies) {
    provider.failNext("revoke", fault);
    assert.deepEqual(await oauthClient.revoke("refresh-any", NEVER), expected, JSON.stringify(fault));
  }
  const never = createOAuthClient(definitionOf(provider, { revokeUrl: undefined }), LOOPBACK_CLIENT);
  assert.deepEqual(await never.revoke("refresh-any", NEVER), passing("no_revocation"));
});

test("a consent that fails says whether the person, the client or the hour is to blame", async (t) => {
  const { client: oauthClient } = await setUp(t);
  const ask = { redirectUri: "https://x.example", state: "s", codeVerifier: "v".repeat(43), nonce: "n" };
  const answerWith = (error: string) =>
    oauthClient.exchange(new URLSearchParams({ state: "s", error, error_description: "words" }), ask, NEVER);
  assert.deepEqual(await answerWith("access_denied"), { kind: "denied", code: "access_denied" });
  assert.deepEqual(await answerWith("admin_policy_enforced"), { kind: "denied", code: "admin_policy_enforced" });
  assert.deepEqual(await answerWith("invalid_scope"), client("invalid_scope"));
  assert.deepEqual(await answerWith("temporarily_unavailable"), passing("temporarily_unavailable"));
  assert.deepEqual(await answerWith("<script>"), passing("unknown_refusal"));
});
