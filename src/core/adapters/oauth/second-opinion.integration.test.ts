import assert from "node:assert/strict";
import test from "node:test";
import { OAuth2Server } from "oauth2-mock-server";
import { request } from "undici";
import { createOAuthClient } from "./oauth-client.ts";
import { ASK, definitionOf, NEVER } from "./test-setup.ts";

test("a server that others wrote takes our code flow, our refresh and our revocation", async (t) => {
  const server = new OAuth2Server();
  await server.issuer.keys.generate("RS256");
  await server.start(0, "127.0.0.1");
  t.after(() => server.stop());
  const url = server.issuer.url ?? "";
  const client = createOAuthClient(definitionOf({ url }), { id: "our-client", secret: "our-secret" });
  const consent = await request(await client.authorizationUrl(ASK));
  await consent.body.dump();
  assert.equal(consent.statusCode, 302);
  const back = new URL(String(consent.headers["location"]));
  assert.equal(`${back.origin}${back.pathname}`, ASK.redirectUri);
  const connected = await client.exchange(back.searchParams, ASK, NEVER);
  assert.ok(connected.kind === "granted", JSON.stringify(connected));
  assert.equal(connected.account?.subject, "johndoe");
  const refreshed = await client.refresh(connected.reply.refreshToken ?? "", NEVER);
  assert.ok(refreshed.kind === "granted");
  assert.ok((refreshed.reply.expiresInSeconds ?? 0) > 0);
  assert.deepEqual(await client.revoke(refreshed.reply.accessToken, NEVER), { kind: "revoked" });
});
