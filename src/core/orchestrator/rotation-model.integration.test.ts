import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test, type TestContext } from "node:test";
import fc from "fast-check";
import type { RuntimeSpec } from "../adapters/runtime/runtime-driver.ts";
import { TENANT_SECRETS, tenantSecretName, tenantSecretPrefix } from "../adapters/vault/vault.ts";
import { addMs } from "../platform/clock.ts";
import { ConflictError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import { getTenant, listTenantEvents } from "../tenants/tenants.ts";
import { createTestDatabase, type TestDatabase } from "../testing/database.ts";
import {
  advanceRotation,
  convergeTenant,
  CREDENTIAL_CACHE_MS,
  type CredentialKind,
  findCredentials,
  findKeys,
  findRuntime,
  type OrchestratorContext,
  rotateKeys,
  sleepTenant,
  wakeTenant,
} from "./orchestrator.ts";
import * as rotations from "./rotation-store.ts";
import { GRACE_MS } from "./rotation.ts";
import { findMintedAt } from "./store.ts";
import { CutOff, setUpOrchestrator } from "./test-setup.ts";

/** What may happen to a tenant. `trouble` befalls the call to the vault or the driver that comes after so many others. */
type Action =
  | { kind: "ask" | "converge" | "rotate" | "sleep" | "wake" | "suspend" | "resume" | "sick" | "well" }
  | { kind: "time"; ms: number }
  | { kind: "trouble"; what: "fails" | "cut off before" | "cut off after"; calls: number };

const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 12, arbitrary: fc.record({ kind: fc.constantFrom("converge" as const, "rotate" as const) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("ask" as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constantFrom(...(["sleep", "wake", "suspend", "resume", "sick", "well"] as const)),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant("time" as const), ms: fc.constantFrom(1_000, 7_000, 61_000) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("trouble" as const),
      what: fc.constantFrom("fails" as const, "cut off before" as const, "cut off after" as const),
      calls: fc.nat(14),
    }),
  },
);

/** What a process was started with. */
type Held = { hash: string; generation: number; secrets: Record<string, string> };

let database: TestDatabase;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());

/** A tenant whose runtime, when it starts, reads its secrets and keeps them, as a process does. */
async function createWorld(t: TestContext) {
  const bench = await setUpOrchestrator(t, database.db);
  const { clock, driver, vault } = bench;
  const id = await bench.newTenant({ billingExempt: true });
  await bench.move(id, { to: "provisioning", reason: "test" });
  let running: Held | undefined;
  /** Ended, but what it began may still come in. */
  let ended: { held: Held; at: Date } | undefined;
  let spec: RuntimeSpec | undefined;
  let trouble: { what: string; calls: number } | undefined;
  let isEnded = new AbortController();
  /** Found in the middle of a job, which would take an error for a failure of the outside. */
  const wrongs: string[] = [];

  async function through<Result>(work: () => Promise<Result>): Promise<Result> {
    const due = trouble !== undefined && trouble.calls-- === 0 ? trouble : undefined;
    if (due === undefined) return work();
    trouble = undefined;
    if (due.what === "fails") throw new Error("the outside failed");
    if (due.what === "cut off after") await work();
    isEnded.abort();
    throw new CutOff();
  }

  async function follow(): Promise<void> {
    const { state } = await driver.inspect(id);
    if (state === "asleep" || state === "absent" || spec?.hash !== running?.hash) stop();
    if (state === "asleep" || state === "absent" || spec === undefined || running !== undefined) return;
    running = { hash: spec.hash, generation: generationOf(spec), secrets: await readSecrets(spec) };
    const mintedAt = await findMintedAt(database.db, id, running.generation);
    const isKnown = mintedAt !== undefined && addMs(mintedAt, CREDENTIAL_CACHE_MS) < clock.now();
    // Of the first ones no gateway can have remembered that there are none.
    if (running.generation > 1 && !isKnown) wrongs.push("it was given keys that not every gateway knows");
  }

  function stop(): void {
    if (running !== undefined) ended = { held: running, at: clock.now() };
    running = undefined;
  }

  async function readSecrets(wanted: RuntimeSpec): Promise<Record<string, string>> {
    const secrets: Record<string, string> = {};
    for (const [variable, name] of Object.entries(wanted.secrets)) {
      const value = await vault.get(name);
      if (value === undefined) wrongs.push(`${name} is not in the vault for a runtime that starts`);
      secrets[variable] = value ?? "";
    }
    return secrets;
  }

  const ctx: OrchestratorContext = {
    ...bench.ctx,
    runtimes: {
      ...driver,
      ensure: (wanted, call) =>
        through(async () => {
          const observed = await driver.ensure(wanted, call);
          spec = wanted;
          await follow();
          return observed;
        }),
      inspect: (...args) => through(() => driver.inspect(...args)),
      sleep: (...args) =>
        through(async () => {
          const observed = await driver.sleep(...args);
          await follow();
          return observed;
        }),
      wake: (...args) =>
        through(async () => {
          const observed = await driver.wake(...args);
          await follow();
          return observed;
        }),
    },
    vault: {
      get: (...args) => through(() => vault.get(...args)),
      getNewest: (...args) => through(() => vault.getNewest(...args)),
      getVersion: (...args) => through(() => vault.getVersion(...args)),
      set: (...args) => through(() => vault.set(...args)),
      delete: (...args) => through(() => vault.delete(...args)),
      list: (...args) => through(() => vault.list(...args)),
    },
  };

  async function run(job: typeof convergeTenant): Promise<void> {
    isEnded = new AbortController();
    try {
      await job(ctx, id, isEnded.signal);
    } catch (error) {
      if (!(error instanceof CutOff)) throw error;
    }
  }

  async function allowed(work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error;
    }
  }

  const acts: Record<Exclude<Action["kind"], "time" | "trouble">, () => Promise<void>> = {
    ask: () => allowed(() => rotateKeys(ctx, id, "test")),
    converge: () => run(convergeTenant),
    rotate: () => run(advanceRotation),
    sleep: () => allowed(() => sleepTenant(ctx, id, "test")),
    wake: () => wakeTenant(ctx, id),
    suspend: () => allowed(() => bench.move(id, { to: "suspended", suspendedBy: "operator", reason: "test" })),
    resume: () => allowed(() => bench.move(id, { to: "active", reason: "test" })),
    sick: async () => driver.setHealthy(id, false),
    well: async () => driver.setHealthy(id, true),
  };

  return {
    id,
    bench,
    async act(next: Action): Promise<void> {
      if (next.kind === "time") clock.advance(next.ms);
      else if (next.kind === "trouble") trouble = { ...next };
      else await acts[next.kind]();
    },
    endTrouble: () => void (trouble = undefined),
    settle: () =>
      bench.settle(id, (job) => {
        clock.advance(10_000);
        return run(job === "converge" ? convergeTenant : advanceRotation);
      }),
    /** What must be so at any moment. */
    async check(): Promise<void> {
      if (running !== undefined) {
        await checkHolds(id, running, clock.now());
        await checkReachable(running);
      }
      if (ended !== undefined && clock.now() < addMs(ended.at, GRACE_MS)) await checkHolds(id, ended.held, clock.now());
      const { state } = await driver.inspect(id);
      if (state === "asleep" && spec !== undefined) await readSecrets(spec);
      assert.deepEqual(wrongs, []);
    },
  };

  /** The router finds the runtime's webhook secret with one try, or two while keys are rotated. */
  async function checkReachable({ secrets }: Held): Promise<void> {
    const runtime = await findRuntime(database.db, id);
    assert.ok(runtime !== undefined);
    const rotation = await rotations.find(database.db, id);
    const tried = new Set([runtime.keyGeneration, rotation?.fromGeneration ?? 0, rotation?.toGeneration ?? 0]);
    const found: (string | undefined)[] = [];
    for (const generation of tried) found.push(await vault.get(tenantSecretName(id, "webhook-secret", generation)));
    assert.ok(found.includes(secrets["TELEGRAM_WEBHOOK_SECRET"]), "its webhook secret is one that the router tries");
  }
}

async function checkHolds(id: TenantId, { secrets, generation }: Held, now: Date): Promise<void> {
  const presented: [CredentialKind, string | undefined][] = [
    ["telegram-token", secrets["TELEGRAM_BOT_TOKEN"]],
    ["model-key", secrets["CP_MODEL_KEY"]],
  ];
  for (const [kind, secret] of presented) {
    const sha256 = createHash("sha256")
      .update(secret ?? "")
      .digest();
    const known = (await findCredentials(database.db, id, kind)).find((credential) => credential.sha256.equals(sha256));
    assert.ok(
      known !== undefined && (known.expiresAt === null || known.expiresAt > now),
      `${kind} ${generation} holds`,
    );
  }
}

function generationOf(spec: RuntimeSpec): number {
  return Number(/-g([0-9]+)$/.exec(spec.secrets["CP_MODEL_KEY"] ?? "")?.[1] ?? 1);
}

test("whatever happens in whatever order, what a runtime holds opens what it should, and rotations come to an end (F45, F98)", async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { minLength: 10, maxLength: 60 }), async (actions) => {
      const world = await createWorld(t);
      const { id, bench } = world;
      await world.settle();
      for (const next of actions) {
        await world.act(next);
        await world.check();
      }
      world.endTrouble();
      await world.act({ kind: "well" });
      await world.settle();
      await world.check();

      const tenant = await getTenant(database.db, id);
      const keys = await findKeys(bench.ctx, tenant);
      assert.deepEqual([keys?.generation, keys?.rotation], [tenant.keyGeneration, null]);
      const names = TENANT_SECRETS.map((secret) => tenantSecretName(id, secret, tenant.keyGeneration));
      assert.deepEqual(await bench.vault.list(tenantSecretPrefix(id)), names.toSorted());
      const events = (await listTenantEvents(database.db, id, 500)).map(({ action: what }) => what);
      const count = (what: string) => events.filter((each) => each === what).length;
      assert.deepEqual(
        [count("tenant.keys-rotation"), count("tenant.keys-rotated")],
        Array.from({ length: 2 }, () => tenant.keyGeneration - 1),
      );
    }),
    { numRuns: Number(process.env["OPENCLAW_TEST_RUNS"] ?? 25) },
  );
});
