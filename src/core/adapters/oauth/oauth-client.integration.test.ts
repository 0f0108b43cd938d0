import assert from "node:assert/strict";
import test from "node:test";
import { inspect } from "node:util";
import { request } from "undici";
import { systemClock } from "../../platform/clock.ts";
import { LOOPBACK_CLIENT, startOAuthProvider } from "../../testing/fakes/oauth/oauth-server.ts";
import { sendJson, startLoopback } from "../../testing/fakes/loopback.ts";
import { createOAuthClient } from "./oauth-client.ts";
import { ASK, definitionOf, NEVER, setUp } from "./test-setup.ts";

test("a consent becomes tokens that work, and an account whose e-mail the provider has verified", async (t) => {
  const { provider, connect } = await setUp(t, { manner: "google" }, { authorizeParams: { access_type: "offline" } });
  const result = await connect();
  assert.ok(result.kind === "granted");
  assert.deepEqual(result.account, { subject: "1001", email: "ann@example.com" });
  // In one order and by their short names, whatever the provider calls them.
  assert.deepEqual(result.reply.scopes, ["email", "mail.modify", "openid"]);
  assert.equal(result.reply.expiresInSeconds, 3_600);
  assert.ok(result.reply.refreshToken?.startsWith("refresh-"));
  const me = await request(provider.meUrl, { headers: { authorization: `Bearer ${result.reply.accessToken}` } });
  assert.deepEqual(await me.body.json(), {
    sub: "1001",
    email: "ann@example.com",
    scopes: ["openid", "email", "mail.modify"],
  });
});

test("what is asked for holds PKCE, state and nonce, and nothing in the definition can replace them", async (t) => {
  const { client } = await setUp(
    t,
    {},
    { authorizeParams: { prompt: "consent", state: "fixed", code_challenge_method: "plain" } },
  );
  const { searchParams } = await client.authorizationUrl(ASK);
  assert.equal(searchParams.get("prompt"), "consent");
  assert.equal(searchParams.get("state"), ASK.state);
  assert.equal(searchParams.get("nonce"), ASK.nonce);
  assert.equal(searchParams.get("code_challenge_method"), "S256");
  assert.match(searchParams.get("code_challenge") ?? "", /^[\w-]{43}$/);
  assert.ok(!searchParams.toString().includes(ASK.codeVerifier));
  assert.equal(searchParams.get("scope"), "openid email mail.modify");
});

test("whoever agrees to less gets tokens for less, and whoever declines none", async (t) => {
  const { connect } = await setUp(t);
  const partly = await connect({ scopes: ["openid", "email"] });
  assert.ok(partly.kind === "granted");
  assert.deepEqual(partly.reply.scopes, ["email", "openid"]);
  assert.deepEqual(await connect({ deny: true }), { kind: "denied", code: "access_denied" });
});

test("an answer of another browser, of another provider or with a part twice is foreign, and no code is spent", async (t) => {
  const { client, provider } = await setUp(t);
  const back = provider.consent(await client.authorizationUrl(ASK)).searchParams;
  const altered = (change: (answer: URLSearchParams) => void) => {
    const answer = new URLSearchParams(back);
    change(answer);
    return client.exchange(answer, ASK, NEVER);
  };
  const foreign = { kind: "foreign", code: "foreign_answer" };
  assert.deepEqual(await altered((answer) => answer.set("state", "another")), foreign);
  assert.deepEqual(await altered((answer) => answer.delete("state")), foreign);
  assert.deepEqual(await altered((answer) => answer.append("state", ASK.state)), foreign);
  assert.deepEqual(await altered((answer) => answer.append("code", "another")), foreign);
  assert.deepEqual(await altered((answer) => answer.delete("code")), foreign);
  assert.deepEqual(await altered((answer) => answer.set("code", "")), foreign);
  assert.deepEqual(await altered((answer) => answer.set("id_token", "x.y.z")), foreign);
  // Mix-up: another provider's answer, brought to this one's door.
  assert.deepEqual(await altered((answer) => answer.set("iss", "https://evil.example")), foreign);
  assert.deepEqual(
    await altered((answer) => {
      answer.delete("code");
      answer.set("error", "access_denied");
      answer.set("iss", "https://evil.example");
    }),
    foreign,
  );
  assert.equal(provider.requests.length, 0);
  assert.equal((await client.exchange(back, ASK, NEVER)).kind, "granted");
});

test("a code is good once, for its verifier and its address only", async (t) => {
  const { client, provider, clock } = await setUp(t);
  const dead = { kind: "dead", code: "invalid_grant" };
  const code = async () => provider.consent(await client.authorizationUrl(ASK)).searchParams;
  const other = { ...ASK, codeVerifier: `${ASK.codeVerifier}-of-another` };
  assert.deepEqual(await client.exchange(await code(), other, NEVER), dead);
  const elsewhere = { ...ASK, redirectUri: "https://evil.example/callback" };
  assert.deepEqual(await client.exchange(await code(), elsewhere, NEVER), dead);
  const used = await code();
  const first = await client.exchange(used, ASK, NEVER);
  assert.ok(first.kind === "granted");
  assert.deepEqual(await client.exchange(used, ASK, NEVER), dead);
  // A code that comes twice was stolen: what came of it ends, too.
  assert.equal(provider.holderOf(first.reply.accessToken), undefined);
  const late = await code();
  clock.advance(60_000);
  assert.deepEqual(await client.exchange(late, ASK, NEVER), dead);
});

test("an id token of another issuer, audience, time or consent is foreign, and so is none; its tokens are handed over to be given back", async (t) => {
  const { provider, connect, clock } = await setUp(t);
  const foreign = { kind: "misgranted", code: "foreign_id_token", isAlive: true };
  const answer = async () => {
    const { kind, ...rest } = await connect();
    assert.ok("code" in rest && "reply" in rest);
    // What came with it can be given back.
    return { kind, code: rest.code, isAlive: provider.holderOf(rest.reply.accessToken) !== undefined };
  };
  const nowSeconds = clock.now().getTime() / 1_000;
  for (const [name, value] of Object.entries({
    iss: "https://evil.example",
    aud: "another-client",
    exp: nowSeconds - 60,
    nonce: "of-another-consent",
    sub: "",
  })) {
    provider.alterNextIdToken((claims) => ({ ...claims, [name]: value }));
    assert.deepEqual(await answer(), foreign, name);
    provider.alterNextIdToken(({ [name]: _left, ...claims }) => claims);
    assert.deepEqual(await answer(), foreign, `no ${name}`);
  }
  provider.alterNextIdToken(() => undefined);
  assert.deepEqual(await answer(), foreign);
});

test("Google may name itself without its scheme, and an e-mail counts only when it is verified", async (t) => {
  const clock = systemClock;
  const { provider } = await setUp(t, { clock });
  const definition = definitionOf(provider, { issuer: "https://accounts.google.com" });
  const client = createOAuthClient(definition, LOOPBACK_CLIENT, { clock });
  const accountWith = async (claims: Record<string, unknown>) => {
    provider.alterNextIdToken((usual) => ({ ...usual, ...claims }));
    const back = provider.consent(await client.authorizationUrl(ASK)).searchParams;
    back.delete("iss");
    const result = await client.exchange(back, ASK, NEVER);
    return result.kind === "granted" ? result.account : result.kind;
  };
  const account = { subject: "1001", email: "ann@example.com" };
  assert.deepEqual(await accountWith({ iss: "accounts.google.com" }), account);
  assert.deepEqual(await accountWith({ iss: "https://accounts.google.com" }), account);
  assert.equal(await accountWith({ iss: "accounts.google.com.evil.example" }), "misgranted");
  const unverified = { subject: "1001", email: undefined };
  const iss = "https://accounts.google.com";
  assert.deepEqual(await accountWith({ iss, email_verified: false }), unverified);
  assert.deepEqual(await accountWith({ iss, email_verified: undefined }), unverified);
  assert.deepEqual(await accountWith({ iss, email: undefined }), unverified);
});

test("a refresh gives new tokens, with or without rotation, until the grant ends", async (t) => {
  for (const rotates of [false, true]) {
    const { client, provider } = await setUp(t, { rotates });
    const { refreshToken = "", grant } = provider.grant();
    const first = await client.refresh(refreshToken, NEVER);
    assert.ok(first.kind === "granted");
    assert.equal(first.reply.refreshToken !== undefined, rotates);
    const second = await client.refresh(first.reply.refreshToken ?? refreshToken, NEVER);
    assert.ok(second.kind === "granted");
    assert.notEqual(second.reply.accessToken, first.reply.accessToken);
    assert.equal(grant.refreshes, 2);
    provider.endGrantsOf("1001");
    const last = second.reply.refreshToken ?? refreshToken;
    assert.deepEqual(await client.refresh(last, NEVER), { kind: "dead", code: "invalid_grant" });
  }
});

test("revoking ends the grant, and what is over already counts as revoked (F77)", async (t) => {
  for (const manner of ["plain", "google"] as const) {
    const { client, provider } = await setUp(t, { manner });
    const { refreshToken = "", accessToken, grant } = provider.grant();
    assert.deepEqual(await client.revoke(refreshToken, NEVER), { kind: "revoked" });
    assert.equal(grant.isAlive, false);
    assert.equal(provider.holderOf(accessToken), undefined);
    assert.deepEqual(await client.revoke(refreshToken, NEVER), { kind: "revoked" });
  }
});

test("a probe finds out whether the provider takes the client, without harm to any grant", async (t) => {
  const { client, provider } = await setUp(t);
  const { grant } = provider.grant();
  assert.deepEqual(await client.probe(NEVER), { kind: "accepted" });
  assert.equal(grant.isAlive, true);
  provider.setClient({ id: LOOPBACK_CLIENT.id, secret: "another" });
  assert.deepEqual(await client.probe(NEVER), { kind: "client", code: "invalid_client" });
  provider.removeClient(LOOPBACK_CLIENT.id);
  assert.deepEqual(await client.probe(NEVER), { kind: "client", code: "invalid_client" });
});

test("a client shows its secret in the header or the form, encoded, and a public one shows none", async (t) => {
  const clients = [{ id: "a b:c", secret: "s%e+c r:e&t" }, { id: "public" }];
  const provider = await startOAuthProvider({ clients });
  t.after(() => provider.close());
  const probe = (clientAuth: "basic" | "post" | "none", secrets: { id: string; secret?: string }) =>
    createOAuthClient(definitionOf(provider, { clientAuth }), { secret: undefined, ...secrets }).probe(NEVER);
  const [confidential = { id: "" }, open = { id: "" }] = clients;
  assert.deepEqual(await probe("basic", confidential), { kind: "accepted" });
  assert.equal(provider.requests.at(-1)?.parameters.has("client_secret"), false);
  assert.deepEqual(await probe("post", confidential), { kind: "accepted" });
  assert.equal(provider.requests.at(-1)?.authorization, undefined);
  assert.deepEqual(await probe("none", open), { kind: "accepted" });
  assert.deepEqual(await probe("post", open), { kind: "accepted" });
  assert.equal((await probe("none", confidential)).kind, "client");
});

test("a provider without OpenID Connect is asked without a nonce, and tells of no account", async (t) => {
  const { client, connect } = await setUp(t, {}, { issuer: undefined, scopes: ["mail.modify"] });
  assert.equal((await client.authorizationUrl(ASK)).searchParams.has("nonce"), false);
  const result = await connect();
  assert.ok(result.kind === "granted");
  assert.equal(result.account, undefined);
});

test("a refresh that is given up before it goes out is not made, and one that went out is waited for (F76)", async (t) => {
  const { client, provider } = await setUp(t, { rotates: true });
  const { refreshToken = "", grant } = provider.grant();
  const stop = new AbortController();
  const gate = provider.hold("token", "after");
  const refreshing = client.refresh(refreshToken, stop.signal);
  await gate.reached;
  stop.abort(new Error("the daemon stops"));
  gate.release();
  assert.equal((await refreshing).kind, "granted");
  await assert.rejects(client.refresh(refreshToken, stop.signal), /the daemon stops/);
  assert.deepEqual([grant.refreshes, grant.reuses], [1, 0]);
});

test("each call has a connection of its own, so that none goes out on one that is just closing (F76)", async (t) => {
  const sockets = new Set<unknown>();
  const server = await startLoopback(async (request, response) => {
    sockets.add(request.socket);
    sendJson(response, 200, { access_token: "abc123" });
  });
  t.after(() => server.close());
  const client = createOAuthClient(definitionOf(server), LOOPBACK_CLIENT);
  for (let calls = 1; calls <= 3; calls += 1) {
    assert.equal((await client.refresh("refresh-any", NEVER)).kind, "granted");
    assert.equal(sockets.size, calls);
  }
});

test("no result holds a code, a verifier, a secret or a provider's own words", async (t) => {
  const { client, provider } = await setUp(t);
  const words = "mail ann@example.com about the-token";
  provider.failNext("token", {
    status: 400,
    body: JSON.stringify({ error: "the-token", error_description: words, error_uri: words }),
  });
  const back = provider.consent(await client.authorizationUrl(ASK)).searchParams;
  const result = inspect(await client.exchange(back, ASK, NEVER), { depth: 10 });
  for (const secret of ["the-token", "ann@", back.get("code") ?? "", ASK.codeVerifier, LOOPBACK_CLIENT.secret])
    assert.ok(!result.includes(secret), result);
});
