import assert from "node:assert/strict";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { createFileVault } from "../src/core/adapters/vault/file-vault.ts";
import { tenantSecretName } from "../src/core/adapters/vault/vault.ts";
import { type JobName, enqueueJob } from "../src/core/platform/jobs.ts";
import type { Endpoint, WireReply } from "../src/core/testing/fakes/oauth/faults.ts";
import { getTenant } from "../src/core/tenants/tenants.ts";
import { expectCode, type Outcome } from "./command.ts";
import { call, type Daemon } from "./daemon-process.ts";
import { CLIENT, type Followed, openIntegrationsStage } from "./integrations-stage.ts";
import { createHaystack, formsOf } from "./secret-search.ts";

const CHAT = 111_222_333;
const ANN = { subject: "1001", email: "ann@example.com", isEmailVerified: true };
const BOB = { subject: "1002", email: "bob@example.com", isEmailVerified: true };
/** Access, refresh and id tokens that the loopback provider made, whoever kept one of them. */
const PATTERNS = [/\b(access|refresh)-[\w-]{32}/, /\beyJ[\w-]{20,}\.[\w-]{20,}\.[\w-]{20,}/];
const KINDS: Readonly<Record<string, string>> = {
  code: "a code",
  code_verifier: "a verifier",
  refresh_token: "a refresh token",
  token: "a revoked token",
  client_secret: "the client's secret",
  state: "a state",
  nonce: "the nonce of an id token",
};

/** Replies that repeat whatever they were asked with, in every place where something could be read from them. */
const ECHOES: Readonly<Record<string, (told: string) => WireReply>> = {
  "an error's description": (told) => json(500, { error: "server_error", error_description: told }),
  "a page": (told) => ({ status: 502, headers: { "content-type": "text/html" }, body: `<html>${told}</html>` }),
  "an error's code": (told) => json(400, { error: told }),
  "an error with status 200": (told) => json(200, { error: told, error_uri: `https://example.com/?${told}` }),
  "half a document": (told) => ({
    status: 200,
    headers: { "content-type": "application/json" },
    body: `{"access_token":"${told}`,
  }),
  "fields of the wrong type": (told) => json(200, { access_token: [told], token_type: told, expires_in: told }),
  "a redirect": (told) => ({ status: 302, headers: { location: `https://example.com/sorry?${encodeURI(told)}` } }),
  "a refusal of the client": (told) => json(401, { error: "invalid_client", error_description: told }),
};

/** Where is looked, beside the output of commands. */
const PLACES = [
  "table public.connections",
  "table public.connection_events",
  "table public.audit_log",
  "table public.connect_links",
  "table public.oauth_states",
  "file vault/versions/connection-",
  "file runtimes/",
  "process arguments",
  "environment of a child",
  "metrics",
  "a daemon's output",
  "a page",
];

function json(status: number, body: unknown): WireReply {
  return { status, headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
}

test("a search finds a secret in whatever form it lies there", () => {
  const secret = "refresh-0123456789abcdefghijABCDEFGHIJ";
  for (const form of [...formsOf(secret), Buffer.from(`a${secret}b`).toString("base64")]) {
    const haystack = createHaystack();
    haystack.add("here", `before ${form} after`);
    assert.deepEqual(haystack.find(new Map([[secret, "a token"]]), []), ["a token in here"], form);
  }
});

/** Two daemons that tell all that they do, and a tenant whose runtime is up. All that is printed is kept. */
async function openRun(t: TestContext) {
  const stage = await openIntegrationsStage(t, { people: [ANN, BOB], rotates: true });
  const haystack = createHaystack();
  const secrets = new Map([[CLIENT.secret, "the client's secret"]]);
  const verbose = { OPENCLAW_LOG_LEVEL: "debug" };
  const daemons = [await stage.startDaemon(verbose), await stage.startAnother(verbose)];
  for (const { child } of daemons)
    child.stdout?.on("data", (bytes) => haystack.add("a daemon's output", String(bytes)));

  async function openclaw(...words: string[]): Promise<Outcome> {
    const outcome = await stage.openclaw(...words);
    // A link is what this one prints.
    if (words[1] !== "connect") haystack.add(`output of ${words.join(" ")}`, outcome.stdout + outcome.stderr);
    return outcome;
  }

  function keep({ page, secrets: seen }: Followed): string {
    for (const [secret, kind] of seen) secrets.set(secret, kind);
    haystack.add("a page", page);
    return page;
  }

  await openclaw(
    "tenant",
    "create",
    "alice",
    "--email",
    "alice@example.com",
    "--chat",
    String(CHAT),
    "--billing-exempt",
  );
  expectCode(await openclaw("tenant", "provision", "alice", "--wait"), 0);
  const { id } = await getTenant(stage.database.db, "alice");
  const vault = createFileVault({ folder: path.join(stage.dataDir, "vault"), key: undefined });
  const modelKey = await vault.get(tenantSecretName(id, "model-key", 1));

  /** What a runtime is given at a daemon, which may keep it. */
  async function handOut({ internalUrl }: Daemon): Promise<{ status: number; token: string }> {
    const headers = { authorization: `Bearer ${modelKey}` };
    const { status, json } = await call(`${internalUrl}/runtime/${id}/integrations/gmail/token`, { headers });
    const token = String(json?.access_token ?? "");
    if (token !== "") secrets.set(token, "an access token");
    return { status, token };
  }

  /** Has `work` ask the provider, which answers with what it was told. */
  async function echo(endpoint: Endpoint, reply: (told: string) => WireReply, work: () => Promise<unknown>) {
    const hold = stage.provider.hold(endpoint, "before");
    const done = work();
    await hold.reached;
    const told = [...(stage.provider.requests.at(-1)?.parameters.values() ?? [])].join(" ");
    stage.provider.failNext(endpoint, reply(told));
    hold.release();
    await done;
  }

  /** The access token has a little left, and nothing has failed lately. */
  async function letExpire(seconds: number): Promise<void> {
    await stage.database.pool.query(
      `UPDATE connections SET access_expires_at = now() + $1 * interval '1 second', refresh_at = now(),
         refreshed_at = now() - interval '1 hour', attempts = 0, tried_at = NULL, wait_until = NULL WHERE provider = 'gmail'`,
      [seconds],
    );
    await stage.database.pool.query("DELETE FROM client_troubles");
  }

  /** All that is there now. */
  async function look(): Promise<void> {
    await haystack.addTables(stage.database.pool);
    await haystack.addFiles(stage.dataDir);
    for (const { child, internalUrl } of daemons) {
      await haystack.addProcesses(child.pid ?? 0);
      haystack.add("metrics", (await call(`${internalUrl}/metrics`)).text);
    }
  }

  /** Of every request that the provider got. */
  function keepAsked(): void {
    for (const { parameters, authorization } of stage.provider.requests) {
      for (const [name, value] of parameters) {
        const kind = KINDS[name];
        if (kind !== undefined && value !== "") secrets.set(value, kind);
      }
      if (authorization !== undefined) secrets.set(authorization.split(" ")[1] ?? authorization, "an authorization");
    }
  }

  const told = () => stage.telegram.messages(CHAT).map(({ text }) => text ?? "");
  const run = (name: JobName) => enqueueJob(stage.database.db, name, {});
  return {
    ...stage,
    haystack,
    secrets,
    daemons,
    openclaw,
    keep,
    vault,
    handOut,
    echo,
    letExpire,
    look,
    keepAsked,
    told,
    run,
  };
}

test("of a whole run, no token, code, state, nonce, verifier, link or client secret is found anywhere (F78, F90)", async (t) => {
  const run = await openRun(t);
  const { openclaw, provider, daemons, database, haystack, secrets } = run;
  const integration = (...words: string[]) => openclaw("integration", ...words);
  const stateOf = async (name: string) =>
    (await database.pool.query("SELECT state FROM connections WHERE provider = $1", [name])).rows[0]?.state;

  const offered = expectCode(await integration("connect", "alice", "gmail"), 0).stdout.trim();
  const first = await run.follow(offered, ANN);
  assert.match(run.keep(first), /Gmail is connected/);
  await run.until(
    () => run.told().some((text) => text.startsWith("Gmail is connected: ann@example.com")),
    "it is told",
  );
  const again = await call(first.back.href, { headers: { cookie: first.cookie } });
  assert.equal(again.status, 410);
  haystack.add("a page", again.text);

  expectCode(await integration("refresh", "alice", "gmail", "--json"), 0);
  for (const daemon of daemons) assert.equal((await run.handOut(daemon)).status, 200);
  for (const [what, reply] of Object.entries(ECHOES)) {
    await run.letExpire(60);
    const asker = daemons[secrets.size % 2] ?? assert.fail();
    await run.echo("token", reply, () => run.handOut(asker));
    assert.notEqual(await stateOf("gmail"), "expired", what);
  }
  await run.letExpire(0);
  await run.echo(
    "token",
    (told) => json(400, { error: told }),
    () => integration("refresh", "alice", "gmail"),
  );
  await run.look();
  await run.letExpire(0);
  assert.equal((await run.handOut(daemons[1] ?? assert.fail())).status, 200);

  await run.echo(
    "token",
    (told) => json(400, { error: "invalid_request", error_description: told }),
    async () => run.keep(await run.connect("alice", "google-calendar", BOB)),
  );
  assert.equal(await stateOf("google-calendar"), undefined);
  assert.match(run.keep(await run.connect("alice", "google-calendar", BOB)), /Google Calendar is connected/);
  await run.look();
  const end = ["disconnect", "alice", "google-calendar", "--confirm", "alice", "--json"];
  await run.echo(
    "revoke",
    (told) => ({ status: 503, body: told }),
    () => integration(...end),
  );
  await run.look();
  await database.pool.query("UPDATE grants_to_end SET try_at = now()");
  await run.run("sweep.revocations");
  await run.until(
    () => provider.grants.some(({ person, isAlive }) => person.subject === BOB.subject && !isAlive),
    "it ends",
  );

  provider.endGrantsOf(ANN.subject);
  await run.letExpire(0);
  await run.run("sweep.connections");
  await run.until(() => run.told().some((text) => text.startsWith("Gmail has to be connected again")), "it is told");
  assert.equal((await run.handOut(daemons[0] ?? assert.fail())).status, 409);
  const [link = ""] = /https?:\S+/.exec(run.told().at(-1) ?? "") ?? [];
  assert.match(run.keep(await run.follow(link, ANN)), /Gmail is connected/);
  await run.letExpire(0);
  await run.run("sweep.connections");
  await run.until(() => provider.grants.some(({ isAlive, refreshes }) => isAlive && refreshes === 1), "it is renewed");
  for (const words of [
    ["list"],
    ["list", "--json"],
    ["show", "alice"],
    ["show", "alice", "--json"],
    ["providers", "--json"],
  ])
    expectCode(await integration(...words), 0);
  for (const words of [
    ["tenant", "show", "alice", "--json"],
    ["tenant", "events", "alice", "--json"],
    ["check", "--json"],
  ])
    await openclaw(...words);
  await run.look();

  expectCode(await openclaw("tenant", "deprovision", "alice", "--confirm", "alice", "--wait"), 0);
  await run.run("sweep.revocations");
  await run.until(async () => (await run.vault.list("connection-")).length === 1, "the former tokens go");
  expectCode(await openclaw("tenant", "purge", "alice", "--confirm", "alice"), 0);
  await run.until(async () => (await database.pool.query("SELECT FROM tenants")).rowCount === 0, "it is purged");
  assert.deepEqual(await run.vault.list("connection-"), []);
  assert.ok(provider.grants.every(({ isAlive }) => !isAlive));
  await run.look();
  for (const { output } of daemons) haystack.add("a daemon's output", output.join("\n"));

  run.keepAsked();
  const kinds = new Set(secrets.values());
  for (const kind of Object.values(KINDS)) assert.ok(kinds.has(kind), kind);
  for (const place of PLACES)
    assert.ok(
      haystack.places().some((name) => name.startsWith(place)),
      place,
    );
  assert.deepEqual(haystack.find(secrets, PATTERNS), []);
});
