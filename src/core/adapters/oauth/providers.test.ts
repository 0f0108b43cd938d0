import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { ConfigError } from "../../platform/errors.ts";
import { readProviders } from "./providers.ts";

const GOOGLE = { id: "google-client", secret: "google-secret" };
const BOARD = {
  id: "notice-board",
  name: "Notice board",
  authorizeUrl: "https://board.example/authorize",
  tokenUrl: "https://board.example/token",
  scopes: ["board.read", "https://www.googleapis.com/auth/userinfo.email"],
  access: ["read the notice board"],
};

async function read(t: TestContext, content: unknown, oauthClients = {}) {
  const folder = await mkdtemp(path.join(tmpdir(), "openclaw-providers-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const providersFile = path.join(folder, "providers.json");
  await writeFile(providersFile, typeof content === "string" ? content : JSON.stringify(content));
  return readProviders({ config: { providersFile }, secrets: { oauthClients } });
}

async function problemsOf(t: TestContext, content: unknown): Promise<string[]> {
  const error = await read(t, content).then(
    () => assert.fail("it was taken"),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof ConfigError);
  return error.problems.map((problem) => problem.replace(/^.*providers\.json:? /, ""));
}

test("Gmail, Google Calendar and Sautai are built in, and those with a client can be used", async () => {
  const settings = { config: { providersFile: undefined }, secrets: { oauthClients: { google: GOOGLE } } };
  const providers = await readProviders(settings);
  assert.deepEqual(
    providers.list().map(({ definition, client }) => [definition.id, client !== undefined]),
    [
      ["gmail", true],
      ["google-calendar", true],
      ["sautai", false],
    ],
  );
  const ask = {
    redirectUri: "https://bot.example.com/oauth/gmail/callback",
    state: "s",
    codeVerifier: "v",
    nonce: "n",
  };
  const url = await providers.find("gmail")?.client?.authorizationUrl(ask);
  assert.equal(url?.origin, "https://accounts.google.com");
  const [access, prompt, client] = ["access_type", "prompt", "client_id"].map((name) => url?.searchParams.get(name));
  assert.deepEqual([access, prompt, client], ["offline", "consent", "google-client"]);
  assert.equal(providers.find("nobody"), undefined);
});

test("a file replaces what it names of a built-in provider, and adds others, whose client bears their name", async (t) => {
  const overrides = [{ id: "gmail", tokenUrl: "http://127.0.0.1:9/token", revokeUrl: null }, BOARD];
  const providers = await read(t, { providers: overrides }, { "notice-board": { id: "public", secret: undefined } });
  const gmail = providers.find("gmail")?.definition;
  assert.equal(gmail?.tokenUrl, "http://127.0.0.1:9/token");
  assert.equal(gmail?.revokeUrl, undefined);
  assert.equal(gmail?.issuer, "https://accounts.google.com");
  const board = providers.find("notice-board");
  assert.notEqual(board?.client, undefined);
  assert.deepEqual(board?.definition, {
    ...BOARD,
    client: "notice-board",
    issuer: undefined,
    revokeUrl: undefined,
    apiUrl: undefined,
    // By their short names, as the scopes of every reply.
    scopes: ["board.read", "email"],
    neededScopes: ["board.read", "email"],
    authorizeParams: {},
    clientAuth: "post",
    needsRefreshToken: true,
    sharesGrant: false,
  });
  assert.deepEqual(
    providers.list().map(({ definition }) => definition.id),
    ["gmail", "google-calendar", "notice-board", "sautai"],
  );
});

test("every mistake in the file is told at once, each with its place", async (t) => {
  const problems = await problemsOf(t, {
    version: 1,
    providers: [
      { id: "gmail", scope: ["openid"], tokenUrl: "http://mail.example/token" },
      { id: "google-calendar", scopes: ["openid"] },
      { id: "Board", name: "" },
      {
        ...BOARD,
        authorizeParams: { state: "fixed" },
        authorizeUrl: "https://user:pass@board.example/",
        scopes: ["a b"],
      },
      { ...BOARD, id: "board", clientAuth: "jwt", issuer: "board" },
      { name: "Nameless" },
      { ...BOARD, id: "twice" },
      { ...BOARD, id: "twice" },
    ],
  });
  const expected = [
    /^Unrecognized key: "version"/,
    /^gmail: tokenUrl: must be an https URL, or http on this machine/,
    /^gmail: Unrecognized key: "scope"/,
    /^google-calendar: neededScopes: https:\S+calendar\.events is not among scopes/,
    /^Board: id: must be 3 to 32 of a-z/,
    /^Board: name: /,
    /^Board: authorizeUrl: is missing/,
    /^Board: tokenUrl: is missing/,
    /^Board: scopes: is missing/,
    /^Board: access: is missing/,
    /^notice-board: authorizeUrl: must be an https URL/,
    /^notice-board: scopes\.0: must be a scope/,
    /^board: issuer: must be an https URL/,
    /^board: clientAuth: /,
    /^providers\.5: id: is missing/,
    /^twice: is there twice/,
  ];
  for (const pattern of expected)
    assert.ok(
      problems.some((problem) => pattern.test(problem)),
      String(pattern),
    );
  const reserved = await problemsOf(t, { providers: [{ ...BOARD, authorizeParams: { state: "fixed" } }] });
  assert.deepEqual(reserved, ["notice-board: authorizeParams.state: is what every request holds already"]);
});

test("a file of another kind is no file of providers", async (t) => {
  assert.match((await problemsOf(t, "{")).join(), /can't be read: .*JSON/);
  assert.match((await problemsOf(t, [BOARD])).join(), /expected object/);
  assert.match((await problemsOf(t, { provider: [] })).join(), /Unrecognized key|providers/);
  assert.match((await problemsOf(t, { providers: [null] })).join(), /^providers\.0: .*expected (object|record)/);
  const nowhere = { config: { providersFile: "/nonexistent/providers.json" }, secrets: { oauthClients: {} } };
  await assert.rejects(readProviders(nowhere), { code: "providers_unreadable" });
});
