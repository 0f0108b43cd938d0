import assert from "node:assert/strict";
import { hash } from "node:crypto";
import test, { type TestContext } from "node:test";
import { documentOf, expectCode, type Outcome } from "./command.ts";
import { openIntegrationsStage } from "./integrations-stage.ts";

type Fields = Record<string, string | null>;

const PEOPLE = ["ann", "bob", "cid"].map((name, index) => ({
  subject: String(1_001 + index),
  email: `${name}@example.com`,
  isEmailVerified: true,
}));
const [ANN, BOB, CID] = PEOPLE.map(({ subject }) => ({ subject }));

function listOf(outcome: Outcome, name: string): Fields[] {
  const list = documentOf(outcome)[name];
  assert.ok(Array.isArray(list), outcome.stdout);
  return list;
}

function codeOf(outcome: Outcome): unknown {
  return (documentOf(outcome)["error"] as Fields)["code"];
}

/** `alice` with Gmail and a calendar, `bella` with Gmail, each of another person, and `carol` with nothing. */
async function open(t: TestContext) {
  const stage = await openIntegrationsStage(t, { people: PEOPLE });
  await stage.startDaemon();
  for (const [slug, tag] of Object.entries({ alice: "eu", bella: "eu", carol: "us" }))
    await stage.addTenant(slug, { tags: [tag] });
  await stage.connect("alice", "gmail", ANN);
  await stage.connect("alice", "google-calendar", BOB);
  await stage.connect("bella", "gmail", CID);
  return { ...stage, integration: (...words: string[]) => stage.openclaw("integration", ...words) };
}

test("a link is made for a while, and waiting for it ends when an account was connected by it", async (t) => {
  const stage = await openIntegrationsStage(t);
  await stage.startDaemon();
  await stage.addTenant("alice");
  const connect = (...words: string[]) => stage.openclaw("integration", "connect", "alice", "gmail", ...words);
  const made = expectCode(await connect(), 0);
  assert.match(made.stdout, /^http:\/\/127\.0\.0\.1:\d+\/oauth\/gmail\/start\?link=[\w-]{43}\n$/);
  assert.match(made.stderr, /once, until \S+Z\. A newer link ends it\.$/m);
  assert.doesNotMatch(made.stderr, /already|No daemon/);
  const { url, expiresAt, ...rest } = documentOf(expectCode(await connect("--valid-for", "2", "--json"), 0));
  assert.deepEqual(rest, { tenant: "alice", provider: "gmail" });
  const hours = (Date.parse(String(expiresAt)) - Date.now()) / 3_600_000;
  assert.ok(hours > 1.9 && hours <= 2, String(expiresAt));
  assert.ok(String(url).startsWith(`${stage.env.OPENCLAW_PUBLIC_URL}/oauth/gmail/start?link=`));

  const late = expectCode(await connect("--wait", "--timeout", "0", "--json"), 9);
  assert.equal(codeOf(late), "wait_timeout");
  const [link = ""] = /http\S+/.exec(late.stderr) ?? [];
  const waiting = connect("--wait", "--json");
  const hashOf = (token: string) => hash("sha256", token, "buffer");
  const isRevoked = async () => {
    const { rows } = await stage.database.pool.query("SELECT revoked_at FROM connect_links WHERE token_hash = $1", [
      hashOf(new URL(link).searchParams.get("link") ?? ""),
    ]);
    return rows[0]?.revoked_at != null;
  };
  await stage.until(isRevoked, "the newer link ends the one before");
  await stage.connect("alice", "gmail");
  const { connection } = documentOf(expectCode(await waiting, 0));
  const { state, account, code } = connection as Fields;
  assert.deepEqual({ state, account, code }, { state: "active", account: "ann@example.com", code: null });
  assert.match(expectCode(await connect(), 0).stderr, /connected to it already \(ann@example\.com\)/);
});

test("what a link can't be made for is said: who, what, by whose client, to where", async (t) => {
  const stage = await openIntegrationsStage(t);
  await stage.addTenant("alice");
  const connect = (...words: string[]) => stage.openclaw("integration", "connect", ...words);
  expectCode(await connect("nobody", "gmail"), 4);
  assert.match(expectCode(await connect("alice", "gmial"), 4).stderr, /there are gmail, google-calendar, sautai/);
  assert.match(expectCode(await connect("alice", "sautai"), 3).stderr, /SAUTAI_CLIENT_ID/);
  assert.match(expectCode(await connect("alice", "gmail"), 0).stderr, /No daemon is running that would open it/);
  await stage.database.pool.query("DELETE FROM connect_links");
  for (const hours of ["0", "721", "soon"])
    assert.match(expectCode(await connect("alice", "gmail", "--valid-for", hours), 2).stderr, /from 1 to 720/);
  await stage.database.pool.query("UPDATE tenants SET status = 'deleted'");
  assert.match(expectCode(await connect("alice", "gmail"), 5).stderr, /alice is deleted/);
  const { OPENCLAW_PUBLIC_URL: _none, ...env } = stage.env;
  const nowhere = await stage.openFolder(env);
  assert.match(
    expectCode(await nowhere("integration", "connect", "alice", "gmail"), 3).stderr,
    /^error: OPENCLAW_PUBLIC_URL/,
  );
  assert.equal((await stage.database.pool.query("SELECT FROM connect_links")).rowCount, 0);
});

test("connections are listed and shown with how they stand and what helps, never with a token", async (t) => {
  const { integration, openclaw, provider, database } = await open(t);
  const table = expectCode(await integration("list"), 0).stdout;
  assert.match(table, /^TENANT +PROVIDER +STATE +ACCOUNT +WHY\nalice +gmail +active +ann@example\.com/);
  assert.equal(table.trimEnd().split("\n").length, 4);
  const listed = async (...words: string[]) =>
    listOf(expectCode(await integration("list", ...words, "--json"), 0), "connections").map(
      ({ tenant, provider, state }) => `${tenant} ${provider} ${state}`,
    );
  assert.deepEqual(await listed("bella"), ["bella gmail active"]);
  assert.deepEqual(await listed("--tag", "eu", "--provider", "google-calendar"), ["alice google-calendar active"]);
  assert.deepEqual(await listed("carol"), []);
  provider.endGrantsOf(PEOPLE[2]?.subject ?? "");
  assert.equal(codeOf(expectCode(await integration("refresh", "bella", "gmail", "--json"), 6)), "grant_dead");
  assert.deepEqual(await listed("--state", "expired", "error"), ["bella gmail expired"]);
  const shown = expectCode(await integration("show", "bella"), 0).stdout;
  assert.match(shown, /^because +the grant was withdrawn, or ended by the provider's rules$/m);
  assert.match(shown, /^remedy +connect again: openclaw integration connect bella gmail$/m);
  assert.match(shown, /refresh +operator +dead \(invalid_grant\)/);
  const [one] = listOf(expectCode(await integration("show", "bella", "gmail", "--json"), 0), "connections");
  assert.deepEqual([one?.["state"], one?.["code"], one?.["nextRefreshAt"]], ["expired", "grant_dead", null]);
  await database.pool.query("UPDATE tenants SET status = 'deprovisioning' WHERE slug = 'alice'");
  assert.match(expectCode(await integration("show", "alice", "gmail"), 0).stdout, /^state +active \(at rest\)/m);
  assert.match(
    expectCode(await openclaw("tenant", "show", "alice"), 0).stdout,
    /^connections +gmail \(active\), google-/m,
  );
  assert.match(expectCode(await integration("show", "carol"), 0).stderr, /carol has no connections/);
  expectCode(await integration("show", "carol", "gmail"), 4);
  expectCode(await integration("show", "carol", "myspace"), 4);
  expectCode(await integration("list", "--state", "gone"), 2);
  expectCode(await integration("list", "alice", "--all"), 2);
});

test("connections are renewed at once, with a result for each", async (t) => {
  const { integration, provider } = await open(t);
  const renewed = async (code: number, ...words: string[]) =>
    listOf(expectCode(await integration("refresh", ...words, "--json"), code), "items").map(
      ({ tenant, provider, result, code }) =>
        [tenant, provider, result, code].filter((cell) => cell !== null).join(" "),
    );
  const refreshes = () => provider.grants.map((grant) => grant.refreshes);
  assert.deepEqual(await renewed(0, "alice", "gmail"), ["alice gmail renewed"]);
  assert.deepEqual(refreshes(), [1, 0, 0]);
  assert.deepEqual(await renewed(0, "alice"), ["alice gmail renewed", "alice google-calendar renewed"]);
  assert.deepEqual(await renewed(0, "--tag", "eu", "--provider", "gmail"), [
    "alice gmail renewed",
    "bella gmail renewed",
  ]);
  provider.endGrantsOf(PEOPLE[2]?.subject ?? "");
  const dead = ["alice gmail renewed", "alice google-calendar renewed", "bella gmail failed grant_dead"];
  assert.deepEqual(await renewed(7, "--all"), dead);
  const leftOut = ["alice gmail renewed", "bella gmail left-out grant_dead"];
  assert.deepEqual(await renewed(0, "--all", "--provider", "gmail"), leftOut);
  assert.match(expectCode(await integration("refresh", "bella", "gmail"), 5).stderr, /connect again: openclaw integ/);
  provider.failNext("token", { status: 503, body: "" }, 10);
  assert.deepEqual(
    (await renewed(6, "alice")).map((line) => line.split(" ")[2]),
    ["failed", "failed"],
  );
  assert.match(
    expectCode(await integration("refresh", "alice", "gmail"), 6).stderr,
    /^error: gmail of alice: it could not be renewed the last 2 times \(server_error\)/,
  );
  assert.deepEqual(await renewed(0, "carol"), []);
  expectCode(await integration("refresh", "carol", "gmail"), 4);
  expectCode(await integration("refresh", "nobody"), 4);
  for (const words of [[], ["alice", "--all"], ["gmail", "--all"]])
    expectCode(await integration("refresh", ...words), 2);
});

test("interrupted, renewing ends what is under way, so that no token is spent for nothing, and prints one document", async (t) => {
  const { openclaw, provider, database } = await open(t);
  const hold = provider.hold("token", "before");
  let isUnderWay = false;
  void hold.reached.then(() => (isUnderWay = true));
  const when = async () => {
    // Once the command has been told to stop.
    if (isUnderWay) setImmediate(hold.release);
    return isUnderWay;
  };
  const outcome = expectCode(
    await openclaw.interrupted(when, "integration", "refresh", "alice", "gmail", "--json"),
    130,
  );
  assert.equal(listOf(outcome, "items")[0]?.["result"], "renewed");
  const { rows } = await database.pool.query("SELECT FROM connections WHERE refreshed_at IS NOT NULL AND attempts = 0");
  assert.equal(rows.length, 1);
});

test("a connection is ended after a confirmation, and the result says what became of the grant", async (t) => {
  const { integration, provider, database } = await open(t);
  const disconnect = (...words: string[]) => integration("disconnect", ...words);
  const ended = async (code: number, ...words: string[]) =>
    listOf(expectCode(await disconnect(...words, "--json"), code), "items").map(
      ({ tenant, provider, result, revocation }) =>
        [tenant, provider, result, revocation].filter((cell) => cell !== null).join(" "),
    );
  const states = async () =>
    (await database.pool.query("SELECT state FROM connections ORDER BY tenant_id, provider")).rows.map(
      ({ state }) => state,
    );
  for (const words of [[], ["--confirm", "bob"], ["--no-input"]]) {
    const unconfirmed = expectCode(await disconnect("alice", "gmail", ...words), 2);
    assert.match(unconfirmed.stderr, /disconnects gmail of alice \(ann@example\.com\).*--confirm alice/);
  }
  assert.match(expectCode(await disconnect("--all"), 2).stderr, /3 connections of 2 tenants.*--confirm 3/);
  assert.deepEqual(await ended(0, "alice", "--dry-run"), [
    "alice gmail would-disconnect",
    "alice google-calendar would-disconnect",
  ]);
  assert.deepEqual(await states(), ["active", "active", "active"]);
  const one = ["alice", "gmail", "--confirm", "alice"];
  assert.deepEqual(await ended(0, ...one, "--reason", "asked for by Ann"), ["alice gmail disconnected revoked"]);
  assert.deepEqual(
    provider.grants.map(({ isAlive }) => isAlive),
    [false, true, true],
  );
  assert.deepEqual(await ended(0, ...one), ["alice gmail already-disconnected"]);
  provider.failNext("revoke", { status: 503, body: "" });
  const rest = await ended(0, "--all", "--confirm", "2");
  assert.deepEqual(rest.toSorted(), [
    "alice gmail already-disconnected",
    "alice google-calendar disconnected pending",
    "bella gmail disconnected revoked",
  ]);
  const { rows } = await database.pool.query(
    "SELECT actor, reason FROM audit_log WHERE action = 'connection.disconnected'",
  );
  assert.deepEqual(rows[0], { actor: "ops", reason: "asked for by Ann" });
  expectCode(await disconnect("carol", "gmail", "--confirm", "carol"), 4);
  assert.deepEqual(await ended(7, "alice", "gmail", "sautai"), [
    "alice gmail already-disconnected",
    "alice sautai absent",
  ]);
  expectCode(await disconnect("alice", "gmail", "--confirm", "alice", "--reason", "two\nlines"), 2);
});

test("connections of one account to one client share a grant, which ends with the last of them (F77)", async (t) => {
  const { integration, connect, provider } = await open(t);
  await connect("carol", "gmail", ANN);
  const end = async (slug: string) => {
    const words = ["disconnect", slug, "gmail", "--confirm", slug, "--json"];
    return listOf(expectCode(await integration(...words), 0), "items")[0]?.["revocation"];
  };
  assert.equal(await end("carol"), "shared");
  assert.equal(provider.grants[0]?.isAlive, true);
  assert.equal(await end("alice"), "revoked");
  assert.equal(provider.grants[0]?.isAlive, false);
});
