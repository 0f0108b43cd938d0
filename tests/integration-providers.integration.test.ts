import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { noteClientTrouble } from "../src/core/integrations/store.ts";
import type { ProviderId } from "../src/core/platform/ids.ts";
import { createTestDatabase } from "../src/core/testing/database.ts";
import {
  LOOPBACK_CLIENT,
  type OAuthProvider,
  startOAuthProvider,
} from "../src/core/testing/fakes/oauth/oauth-server.ts";
import { documentOf, expectCode, openFolder, type Outcome, temporaryFolder } from "./command.ts";

const GOOGLE = { GOOGLE_CLIENT_ID: LOOPBACK_CLIENT.id, GOOGLE_CLIENT_SECRET: LOOPBACK_CLIENT.secret };

/** Google's products as they are, but for their endpoints: those are on loopback. */
async function providersFile(t: TestContext, { url }: Pick<OAuthProvider, "url">): Promise<string> {
  const file = path.join(await temporaryFolder(t), "providers.json");
  const endpoints = {
    authorizeUrl: `${url}/authorize`,
    tokenUrl: `${url}/token`,
    revokeUrl: `${url}/revoke`,
    issuer: url,
  };
  const ids = ["gmail", "google-calendar", "sautai"];
  await writeFile(file, JSON.stringify({ providers: ids.map((id) => ({ id, ...endpoints })) }));
  return file;
}

function lineOf(outcome: Outcome, name: string): string {
  const checks = documentOf(outcome)["checks"] as { name: string; status: string; message: string; remedy: string }[];
  const found = checks.find((line) => line.name === name);
  return found === undefined ? "" : `${found.status}: ${found.message} ${found.remedy ?? ""}`.trim();
}

test("integration providers tells without a database what can be connected and what that takes", async (t) => {
  const env = {
    ...GOOGLE,
    OPENCLAW_PUBLIC_URL: "https://bot.example.com",
    DATABASE_URL: "postgres://127.0.0.1:1/none",
  };
  const openclaw = await openFolder(t, env);
  const outcome = expectCode(await openclaw("integration", "providers", "--json"), 0);
  const providers = documentOf(outcome)["providers"] as Record<string, unknown>[];
  assert.deepEqual(
    providers.map(({ id, configured, redirectUri }) => [id, configured, redirectUri]),
    [
      ["gmail", true, "https://bot.example.com/oauth/gmail/callback"],
      ["google-calendar", true, "https://bot.example.com/oauth/google-calendar/callback"],
      ["sautai", false, "https://bot.example.com/oauth/sautai/callback"],
    ],
  );
  assert.deepEqual(providers[2]?.["client"], {
    name: "sautai",
    variables: ["SAUTAI_CLIENT_ID", "SAUTAI_CLIENT_SECRET"],
  });
  assert.ok(!outcome.stdout.includes(LOOPBACK_CLIENT.secret));
  const [gmail, , sautai] = expectCode(await openclaw("integration", "providers"), 0).stdout.split("\n\n");
  assert.match(
    gmail ?? "",
    /^provider +gmail\nname +Gmail\nclient +configured\nscopes +openid email https:\S+gmail\.modify$/m,
  );
  assert.match(gmail ?? "", /^redirect +https:\/\/bot\.example\.com\/oauth\/gmail\/callback$/m);
  assert.match(sautai ?? "", /^client +not configured: set SAUTAI_CLIENT_ID and SAUTAI_CLIENT_SECRET$/m);

  const unaddressed = await openFolder(t, {});
  const unset = expectCode(await unaddressed("integration", "providers"), 0);
  assert.match(unset.stderr, /OPENCLAW_PUBLIC_URL is not set/);
});

test("a file of providers with mistakes ends with 3 and names each, and check tells them beside all else", async (t) => {
  const file = path.join(await temporaryFolder(t), "providers.json");
  await writeFile(file, JSON.stringify({ providers: [{ id: "gmail", tokenUrl: "http://mail.example" }, { id: "x" }] }));
  const openclaw = await openFolder(t, { OPENCLAW_PROVIDERS_FILE: file, DATABASE_URL: "postgres://127.0.0.1:1/none" });
  const { stderr } = expectCode(await openclaw("integration", "providers"), 3);
  assert.match(stderr, /gmail: tokenUrl: must be an https URL/);
  assert.match(stderr, /x: name: is missing/);
  const checked = expectCode(await openclaw("check", "--json"), 8);
  assert.match(
    lineOf(checked, "integrations"),
    /^failed: .*gmail: tokenUrl: .*, and \d+ more, see: openclaw integration providers Correct the file/,
  );
  assert.match(lineOf(checked, "database"), /^failed/);
});

test("check finds out whether each provider takes our client, once for each client", async (t) => {
  await using database = await createTestDatabase();
  const provider = await startOAuthProvider();
  t.after(() => provider.close());
  const env = { DATABASE_URL: database.url, OPENCLAW_PROVIDERS_FILE: await providersFile(t, provider) };
  const without = await openFolder(t, env);
  assert.equal(lineOf(await without("check", "--json"), "integrations"), "ok: none configured");
  assert.equal(provider.requests.length, 0);

  const openclaw = await openFolder(t, { ...env, ...GOOGLE });
  const well = await openclaw("check", "--json");
  assert.equal(lineOf(well, "integrations"), "ok: gmail, google-calendar");
  assert.match(lineOf(well, "oauth client google"), /^ok: 127\.0\.0\.1:\d+ takes it \(gmail, google-calendar\)$/);
  assert.match(lineOf(well, "connections"), /^ok: /);
  assert.equal(provider.requests.length, 1);

  provider.failNext("token", { status: 502, body: "<h1>Sorry</h1>" });
  const away = await openclaw("check", "--json");
  assert.match(lineOf(away, "oauth client google"), /^warning: .*did not say.*server_error/);

  provider.setClient({ id: LOOPBACK_CLIENT.id, secret: "rolled" });
  const refused = expectCode(await openclaw("check", "--json"), 8);
  assert.match(
    lineOf(refused, "oauth client google"),
    /^failed: .*invalid_client.*GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET/,
  );
  for (const outcome of [well, away, refused]) assert.ok(!outcome.stdout.includes(LOOPBACK_CLIENT.secret));
});

test("check fails while a provider refuses our client to connections, though nobody is disconnected (F73)", async (t) => {
  await using database = await createTestDatabase();
  const provider = await startOAuthProvider();
  t.after(() => provider.close());
  const now = new Date("2030-05-04T12:00:00Z");
  await noteClientTrouble(database.db, { provider: "gmail" as ProviderId, code: "deleted_client", now, probeAt: now });
  const env = { ...GOOGLE, DATABASE_URL: database.url, OPENCLAW_PROVIDERS_FILE: await providersFile(t, provider) };
  const outcome = expectCode(await (await openFolder(t, env))("check", "--json"), 8);
  assert.match(
    lineOf(outcome, "connections"),
    /^failed: gmail connections can't be renewed since 2030-05-04T12:00:00Z: deleted_client Mend the client/,
  );
});
