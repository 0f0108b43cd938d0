import assert from "node:assert/strict";
import test, { after, before, type TestContext } from "node:test";
import { DefaultAzureCredential } from "@azure/identity";
import { UpstreamError } from "../../platform/errors.ts";
import { trustLoopback } from "../../testing/fakes/azure/certificate.ts";
import { type IdentityServer, startIdentityServer } from "../../testing/fakes/azure/identity-server.ts";
import { type KeyVaultServer, startKeyVault } from "../../testing/fakes/azure/key-vault.ts";
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

async function open() {
  const server = await startKeyVault(identity);
  servers.push(server);
  return { server, vault: createAzureVault({ url: server.url, credential: async () => new DefaultAzureCredential() }) };
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

test("a token is asked for by the vault's challenge, once, and for its audience alone", async () => {
  const { server, vault } = await open();
  await vault.set("a", "1");
  await vault.get("a");
  assert.deepEqual(new Set(identity.requests.map(({ audience }) => audience)), new Set(["https://vault.azure.net"]));
  assert.equal(server.calls.filter(({ status }) => status === 401).length, 1);
});

test("throttling and broken connections are passed over", async () => {
  const { server, vault } = await open();
  await vault.set("a", "1");
  server.failNext("GET /secrets/a", { status: 429, code: "Throttled" }, 2);
  assert.equal(await vault.get("a"), "1");
  server.failNext("GET /secrets/a", "reset");
  assert.equal(await vault.get("a"), "1");
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
