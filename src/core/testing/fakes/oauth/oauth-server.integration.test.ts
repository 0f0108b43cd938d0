import assert from "node:assert/strict";
import { createPublicKey, createVerify, type JsonWebKey } from "node:crypto";
import test from "node:test";
import { request } from "undici";
import { ASK, NEVER, setUp } from "../../../adapters/oauth/test-setup.ts";

const DEAD = { kind: "dead", code: "invalid_grant" };

/** What a browser does with a page: follows nothing by itself. */
async function submit(url: URL, form: Record<string, string | string[]>): Promise<URL> {
  const body = new URLSearchParams();
  for (const [name, values] of Object.entries(form)) for (const value of [values].flat()) body.append(name, value);
  const headers = { "content-type": "application/x-www-form-urlencoded" };
  const reply = await request(url, { method: "POST", headers, body: body.toString() });
  await reply.body.dump();
  assert.equal(reply.statusCode, 302);
  return new URL(String(reply.headers["location"]));
}

test("a spent refresh token ends the whole grant, but within the leeway gives tokens once more (F76)", async (t) => {
  const { client, provider, clock } = await setUp(t, { rotates: true, leewayMs: 5_000 });
  const { refreshToken = "", grant } = provider.grant();
  const first = await client.refresh(refreshToken, NEVER);
  clock.advance(4_999);
  assert.equal((await client.refresh(refreshToken, NEVER)).kind, "granted");
  assert.deepEqual([grant.refreshes, grant.reuses, grant.isAlive], [2, 1, true]);
  clock.advance(1);
  assert.deepEqual(await client.refresh(refreshToken, NEVER), DEAD);
  assert.deepEqual([grant.refreshes, grant.reuses, grant.isAlive], [2, 2, false]);
  assert.ok(first.kind === "granted");
  assert.equal(provider.holderOf(first.reply.accessToken), undefined);
  assert.deepEqual(await client.refresh(first.reply.refreshToken ?? "", NEVER), DEAD);
});

test("a refresh token is spent even when the answer is lost", async (t) => {
  const { client, provider } = await setUp(t, { rotates: true });
  for (const fault of ["lost", "cut"] as const) {
    const { refreshToken = "", grant } = provider.grant();
    provider.failNext("token", fault);
    assert.equal((await client.refresh(refreshToken, NEVER)).kind, "unavailable");
    assert.equal(grant.refreshes, 1);
    assert.deepEqual(await client.refresh(refreshToken, NEVER), DEAD);
  }
  const { refreshToken = "", grant } = provider.grant();
  provider.failNext("token", "reset", 2);
  assert.equal((await client.refresh(refreshToken, NEVER)).kind, "unavailable");
  assert.equal((await client.refresh(refreshToken, NEVER)).kind, "unavailable");
  assert.equal(grant.refreshes, 0);
  assert.equal((await client.refresh(refreshToken, NEVER)).kind, "granted");
});

test("in Google's manner, all consents of a person are one grant, which ends as one and keeps the newest tokens", async (t) => {
  const offline = { access_type: "offline" };
  const { client, provider, connect } = await setUp(
    t,
    { manner: "google", maxRefreshTokens: 2 },
    { authorizeParams: offline },
  );
  const first = await connect();
  assert.ok(first.kind === "granted" && first.reply.refreshToken !== undefined);
  // Consent isn't asked for again, so there is no further refresh token.
  const again = await connect();
  assert.ok(again.kind === "granted");
  assert.equal(again.reply.refreshToken, undefined);
  const [second, third] = [provider.grant(), provider.grant()];
  assert.equal(provider.grants.length, 1);
  assert.deepEqual(await client.refresh(first.reply.refreshToken, NEVER), DEAD);
  assert.equal((await client.refresh(second.refreshToken ?? "", NEVER)).kind, "granted");
  assert.deepEqual(await client.revoke(second.accessToken, NEVER), { kind: "revoked" });
  assert.deepEqual(await client.refresh(third.refreshToken ?? "", NEVER), DEAD);
  assert.equal(provider.holderOf(again.reply.accessToken), undefined);
  const reconnected = await connect();
  assert.ok(reconnected.kind === "granted" && reconnected.reply.refreshToken !== undefined);
});

test("in the plain manner, every consent is a grant of its own", async (t) => {
  const { client, provider } = await setUp(t);
  const [one, two] = [provider.grant(), provider.grant()];
  await client.revoke(one.refreshToken ?? "", NEVER);
  assert.deepEqual(await client.refresh(one.refreshToken ?? "", NEVER), DEAD);
  assert.equal((await client.refresh(two.refreshToken ?? "", NEVER)).kind, "granted");
});

test("a person agrees at a page, as whom and to what they choose", async (t) => {
  const bob = { subject: "1002", email: `bob<"&'>@example.com`, isEmailVerified: true };
  const { client, provider } = await setUp(t);
  provider.addPerson(bob);
  const url = await client.authorizationUrl(ASK);
  const page = await request(url);
  const html = await page.body.text();
  assert.match(html, /<option value="1002">bob&#60;&#34;&#38;&#39;&#62;@example.com</);
  assert.match(html, /<button name="decision" value="allow">Allow<\/button>/);
  const [, action = ""] = /action="([^"]+)"/.exec(html) ?? [];
  const target = new URL(action.replaceAll("&#38;", "&"), url);
  const back = await submit(target, { subject: "1002", scope: ["openid", "mail.modify"], decision: "allow" });
  const result = await client.exchange(back.searchParams, ASK, NEVER);
  assert.ok(result.kind === "granted");
  assert.deepEqual([result.account?.subject, result.reply.scopes], ["1002", ["mail.modify", "openid"]]);
  const declined = await submit(target, { decision: "deny" });
  assert.equal(declined.searchParams.get("error"), "access_denied");
});

test("nobody is sent to an address that the client has not registered", async (t) => {
  const { client, provider } = await setUp(t, { clients: [] });
  provider.setClient({ id: "loopback-client", secret: "loopback-client-secret", redirectUris: [ASK.redirectUri] });
  const elsewhere = await client.authorizationUrl({ ...ASK, redirectUri: `${ASK.redirectUri}/../evil` });
  const refused = await request(elsewhere);
  assert.equal(refused.statusCode, 400);
  assert.deepEqual(await refused.body.json(), { error: "redirect_uri_mismatch" });
  assert.throws(() => provider.consent(elsewhere), /redirect_uri_mismatch/);
  assert.equal(provider.consent(await client.authorizationUrl(ASK)).pathname, "/oauth/loopback/callback");
});

test("an access token ends with its time, and id tokens bear the signature of the published key", async (t) => {
  const { client, clock, provider } = await setUp(t, { accessTokenSeconds: 60, autoConsent: true });
  const consent = await request(await client.authorizationUrl(ASK));
  const code = new URL(String(consent.headers["location"])).searchParams.get("code") ?? "";
  const form = {
    grant_type: "authorization_code",
    code,
    code_verifier: ASK.codeVerifier,
    redirect_uri: ASK.redirectUri,
  };
  const body = new URLSearchParams({ ...form, client_id: "loopback-client", client_secret: "loopback-client-secret" });
  const reply = await request(provider.tokenUrl, { method: "POST", body: body.toString() });
  const tokens = (await reply.body.json()) as Record<string, string>;
  const { keys } = (await (await request(`${provider.url}/jwks`)).body.json()) as { keys: JsonWebKey[] };
  const [key = {}] = keys;
  const [head, payload, signature = ""] = (tokens["id_token"] ?? "").split(".");
  const verify = createVerify("RSA-SHA256").update(`${head}.${payload}`);
  assert.ok(verify.verify(createPublicKey({ key, format: "jwk" }), signature, "base64url"));
  const statusOf = async () => {
    const me = await request(provider.meUrl, { headers: { authorization: `Bearer ${tokens["access_token"]}` } });
    await me.body.dump();
    return me.statusCode;
  };
  assert.equal(await statusOf(), 200);
  clock.advance(60_000);
  assert.equal(await statusOf(), 401);
});
