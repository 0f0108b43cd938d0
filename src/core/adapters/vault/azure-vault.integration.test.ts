import assert from "node:assert/strict";
import test, { after, before, type TestContext } from "node:test";
import { DefaultAzureCredential } from "@azure/identity";
import { UpstreamError } from "../../platform/errors.ts";
import { trustLoopback } from "../../testing/fakes/azure/certificate.ts";
import { type IdentityServer, startIdentityServer } from "../../testing/fakes/azure/identity-server.ts";
import { type KeyVaultServer, startKeyVault } from "../../testing/fakes/azure/key-vault.ts";
import { until } from "../../router/test-setup.ts";
import { createAzureVault } from "./azure-vault.ts";
import { vaultContract } from "./contract.ts";

let identity: IdentityServer;
const servers: KeyVaultServer[] = [];
before(async () => {
  trustLoopback();
  identity = await startIdentityServer();
  Object.assign(process.env, identity.env);
});
after(async () => {
  for (const server of servers) await server.close();
  await identity.close();
});

async function open(options: { patienceMs?: number } = {}) {
  const server = await startKeyVault(identity);
  servers.push(server);
  const vault = createAzureVault({ url: server.url, credential: async () => new DefaultAzureCredential(), ...options });
  /** Requests that began so, and were answered with `status`. */
  const count = (route: string, status = 200) =>
    server.calls.filter((call) => call.status === status && `${call.method} ${call.path}`.startsWith(route)).length;
  return { server, vault, count };
}

vaultContract("azure", async () => (await open()).vault);

test("deletions and recoveries that take a while are waited out, also where nothing may be purged (F74)", async () => {
  const { server, vault } = await open();
  server.settleAfter(2);
  await vault.set("again", "one");
  await vault.delete("again");
  assert.deepEqual([server.values(), server.deleted()], [{}, ["again"]]);
  await vault.set("again", "two");
  assert.deepEqual([server.values(), server.deleted()], [{ again: "two" }, []]);
  const writers = Array.from({ length: 5 }, (_, nth) => vault.set("again", `value ${nth}`));
  await Promise.all([vault.delete("again"), ...writers]);
});

test("a name that is used again has the versions of before beside its own, and the newest is the new one (F74)", async () => {
  const { server, vault } = await open();
  server.settleAfter(2);
  const before = await vault.set("again", "one");
  await vault.delete("again");
  const after = await vault.set("again", "two");
  assert.deepEqual(await vault.getNewest("again"), { value: "two", version: after });
  assert.equal(await vault.getVersion("again", before), "one");
});

test("many names are listed page by page", async () => {
  const { vault } = await open();
  const names = Array.from({ length: 60 }, (_, nth) => `t-${String(nth).padStart(3, "0")}`);
  for (const name of names) await vault.set(name, "x");
  assert.deepEqual(await vault.list("t-"), names);
});

test("a token is asked for by the vault's challenge, once for all requests, and for its audience alone", async () => {
  const { vault, count } = await open();
  const before = identity.requests.length;
  await vault.set("a", "1");
  await Promise.all(Array.from({ length: 10 }, () => vault.get("a")));
  await vault.list("");
  await vault.delete("a");
  assert.equal(count("", 401), 1);
  // None where another vault's client was given one: this process keeps them.
  assert.ok(identity.requests.length - before <= 1);
  assert.deepEqual(new Set(identity.requests.map(({ audience }) => audience)), new Set(["https://vault.azure.net"]));
});

test("a version that was read is not asked for again, until its name is deleted", async () => {
  const { vault, count } = await open();
  const version = await vault.set("a", "1");
  assert.equal(count("GET"), 0);
  const readers = Array.from({ length: 8 }, () => vault.getVersion("a", version));
  assert.deepEqual(new Set(await Promise.all(readers)), new Set(["1"]));
  await vault.set("a", "2");
  assert.equal(await vault.getVersion("A", version), "1");
  assert.equal(count("GET /secrets/a/"), 1);
  await vault.delete("a");
  assert.equal(await vault.getVersion("a", version), undefined);
});

test("throttling, said with a time to come back or without, and broken connections are waited out", async () => {
  const { server, vault, count } = await open();
  await vault.set("a", "1");
  server.failNext("GET /secrets/a", { status: 429, code: "Throttled" }, 5);
  assert.equal(await vault.get("a"), "1");
  server.failNext("GET /secrets/a", { status: 429, code: "Throttled", retryAfter: null }, 2);
  server.failNext("PUT /secrets/a", { status: 429, code: "Throttled", retryAfter: 1 });
  await Promise.all([vault.get("a"), vault.set("a", "2")]);
  assert.deepEqual([count("GET", 429), count("PUT", 429)], [7, 1]);
  server.failNext("GET /secrets/a", "reset");
  assert.equal(await vault.get("a"), "2");
});

test("throttling that lasts longer than somebody waits is an outside failure that may be tried again", async () => {
  const { server, vault } = await open({ patienceMs: 1_000 });
  await vault.set("a", "1");
  const refused = (code: string) => (error: unknown) =>
    error instanceof UpstreamError && error.retryable && error.code === code;
  server.failNext("GET /secrets/a", { status: 429, code: "Throttled", retryAfter: null }, 9);
  await assert.rejects(vault.get("a"), refused("vault_throttled"));
  server.failNext("PUT /secrets/a", { status: 429, code: "Throttled", retryAfter: 60 });
  await assert.rejects(vault.set("a", "2"), refused("vault_failed"));
  assert.deepEqual(server.values(), { a: "1" });
});

test("of many who ask at once, only so many come to the vault at a time", async () => {
  const { server, vault } = await open();
  await vault.set("a", "1");
  const letIn = server.hold();
  const readers = Array.from({ length: 100 }, () => vault.get("a"));
  const writers = Array.from({ length: 30 }, (_, nth) => vault.set(`b-${nth}`, "1"));
  await until(() => server.mostAtOnce() >= 20, "all turns are taken");
  letIn();
  await Promise.all([...readers, ...writers]);
  assert.equal(server.mostAtOnce(), 20);
});

test("a role that is not in force yet is said to be so, and may be tried again; nothing of a value or a token is told", async () => {
  const { server, vault } = await open();
  server.setPermitted(false);
  await assert.rejects(vault.set("a", "very-secret"), (error) => {
    assert.ok(error instanceof UpstreamError && error.retryable);
    assert.match(error.message, /roles take minutes/);
    assert.ok(!JSON.stringify([error.message, String(error.cause)]).includes("very-secret"));
    return true;
  });
  server.setPermitted(true);
  await vault.set("a", "1");
});

async function unreachable(t: TestContext) {
  const { server, vault } = await open();
  t.after(() => server.close());
  await server.close();
  return vault;
}

test("a vault that can't be reached is an outside failure", { timeout: 60_000 }, async (t) => {
  const vault = await unreachable(t);
  await assert.rejects(vault.get("a"), { code: "vault_failed" });
});
