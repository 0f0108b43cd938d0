import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import test from "node:test";
import { fixedClock } from "../platform/clock.ts";
import type { Credential } from "../orchestrator/orchestrator.ts";
import { parseTenantId, type TenantId } from "../platform/ids.ts";
import { createRuntimeAuth, type RuntimeCredentialKind } from "./runtime-auth.ts";

function tenant(): TenantId {
  const id = parseTenantId(randomUUID());
  assert.ok(id !== undefined);
  return id;
}

function fixture() {
  const stored = new Map<string, Credential[]>();
  const clock = fixedClock(new Date("2026-01-01T00:00:00Z"));
  const lookups: string[] = [];
  const credentials = {
    async find(tenantId: TenantId, kind: RuntimeCredentialKind): Promise<Credential[]> {
      lookups.push(tenantId);
      return stored.get(`${kind}:${tenantId}`) ?? [];
    },
  };
  const store = (tenantId: TenantId, kind: RuntimeCredentialKind, ...secrets: (string | [string, Date])[]): void => {
    stored.set(`${kind}:${tenantId}`, secrets.map(credential));
  };
  return { auth: createRuntimeAuth({ credentials, clock }), store, clock, lookups };
}

function credential(given: string | [string, Date]): Credential {
  const [secret, expiresAt] = typeof given === "string" ? [given, null] : given;
  return { sha256: createHash("sha256").update(secret).digest(), expiresAt };
}

test("a tenant is known by its own credential of the right kind only (F93, F96)", async () => {
  const { auth, store } = fixture();
  const [alice, bob] = [tenant(), tenant()];
  store(alice, "telegram-token", "a-token");
  store(alice, "model-key", "a-key");
  store(bob, "telegram-token", "b-token");

  assert.equal(await auth.authenticate(alice, "telegram-token", "a-token"), alice);
  assert.equal(await auth.authenticate(alice.toUpperCase(), "model-key", "a-key"), alice);
  assert.equal(await auth.authenticate(alice, "telegram-token", "b-token"), undefined);
  assert.equal(await auth.authenticate(bob, "telegram-token", "a-token"), undefined);
  assert.equal(await auth.authenticate(alice, "telegram-token", "a-key"), undefined);
  assert.equal(await auth.authenticate(alice, "telegram-token", ""), undefined);
});

test("unknown tenants and malformed ids are refused without an error", async () => {
  const { auth } = fixture();
  assert.equal(await auth.authenticate(tenant(), "model-key", "x"), undefined);
  assert.equal(await auth.authenticate("../../etc", "model-key", "x"), undefined);
});

test("a look-up is remembered briefly, and forgotten when the tenant is invalidated (F98)", async () => {
  const { auth, store, clock, lookups } = fixture();
  const alice = tenant();
  assert.equal(await auth.authenticate(alice, "model-key", "new"), undefined);
  store(alice, "model-key", "new");
  assert.equal(await auth.authenticate(alice, "model-key", "new"), undefined);
  assert.equal(lookups.length, 1);

  auth.invalidate(alice);
  assert.equal(await auth.authenticate(alice, "model-key", "new"), alice);
  store(alice, "model-key", "newer");
  clock.advance(60_000);
  assert.equal(await auth.authenticate(alice, "model-key", "new"), undefined);
});

test("while keys are rotated both hold, the old ones up to their end, though a look-up is remembered (F98)", async () => {
  const { auth, store, clock, lookups } = fixture();
  const [alice, bob] = [tenant(), tenant()];
  const end = new Date("2026-01-01T00:00:04Z");
  store(alice, "model-key", "new", ["old", end]);
  store(bob, "model-key", "bobs");
  const accepted = async () =>
    Promise.all(["new", "old", "bobs"].map((key) => auth.authenticate(alice, "model-key", key)));
  assert.deepEqual(await accepted(), [alice, alice, undefined]);
  for (const key of ["new", "old"]) assert.equal(await auth.authenticate(bob, "model-key", key), undefined);
  clock.advance(3_999);
  assert.deepEqual(await accepted(), [alice, alice, undefined]);
  clock.advance(1);
  assert.deepEqual(await accepted(), [alice, undefined, undefined]);
  assert.equal(lookups.length, 2);
});

test("a look-up that failed is made again", async () => {
  const answers: Promise<Credential[]>[] = [
    Promise.reject(new Error("connection lost")),
    Promise.resolve([credential("key")]),
  ];
  const auth = createRuntimeAuth({
    credentials: { find: () => answers.shift() ?? Promise.resolve([]) },
    clock: fixedClock(new Date("2026-01-01T00:00:00Z")),
  });
  const alice = tenant();
  await assert.rejects(auth.authenticate(alice, "model-key", "key"), /connection lost/);
  assert.equal(await auth.authenticate(alice, "model-key", "key"), alice);
});
