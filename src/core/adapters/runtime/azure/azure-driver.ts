import type { ContainerApp } from "@azure/arm-appcontainers";
import { Agent } from "undici";
import type { Stamp } from "../../../platform/config.ts";
import { NotFoundError } from "../../../platform/errors.ts";
import type { StampId, TenantId } from "../../../platform/ids.ts";
import { roomOf } from "../../../platform/stamps.ts";
import { createSlots } from "../../../platform/slots.ts";
import type { Journal } from "../journal.ts";
import {
  absentRuntime,
  type DriverCall,
  type ObservedRuntime,
  type RuntimeDriver,
  type RuntimeSpec,
} from "../runtime-driver.ts";
import { getApp, getSettledApp, listRevisions, removeApp, stopRevisions } from "./app.ts";
import { type Applied, applySpec, driftFrom, settleAccess } from "./apply.ts";
import type { ArmClients } from "./arm-clients.ts";
import { removeIdentity } from "./identity.ts";
import { leftBehind, listApps, listIdentities } from "./inventory.ts";
import { createLocks, type LockPools } from "./locks.ts";
import { runtimeName } from "./names.ts";
import { addressOf, observeApp, probe, type Sight } from "./observe.ts";
import type { AzureRecord, Records } from "./records.ts";
import { unknownStamp } from "./refusals.ts";
import { eraseState, prepareStamp } from "./state-share.ts";
import { createStampClient, type Errand, type StampClient } from "./steps.ts";

/** While a runtime starts it is asked for its health; Azure, only so often. */
const LOOK_MS = 30_000;
const PROBES = 64;

export type AzureDriverOptions = LockPools & {
  stamps: readonly Stamp[];
  openArm: (stamp: Stamp) => ArmClients;
  records: Records;
  journal: Journal;
  /** This control plane's mark. */
  readInstallation: () => Promise<string>;
  /** Between two looks at what is under way on Azure. */
  pollMs: number;
};

/**
 * Runtimes as container apps. What each was told to be lies in PostgreSQL, for Azure can't keep it for what sleeps: any change of an
 * app starts it (F39). A runtime that sleeps takes a new spec over in its record alone, and is made of it when it wakes. Every
 * operation works under its tenant's lock, reads what is there, does what is missing, and may be cut off anywhere.
 */
export function createAzureDriver(options: AzureDriverOptions): RuntimeDriver {
  const { records, journal, pollMs } = options;
  const { exclusively, inTurn } = createLocks(options);
  const agent = new Agent({ connections: 4, keepAliveTimeout: 10_000, connectTimeout: 5_000 });
  const clients = new Map<StampId, StampClient>(
    options.stamps.map((stamp) => [
      stamp.id,
      createStampClient({ stamp, arm: options.openArm(stamp), journal, pollMs }),
    ]),
  );
  const prepared = new Map<StampId, Promise<void>>();
  /** When each runtime that starts was last looked at, and as what. */
  const starting = new Map<TenantId, { hash: string; at: number }>();
  let installation: Promise<string> | undefined;

  function readInstallation(): Promise<string> {
    installation ??= options.readInstallation().catch((error: unknown) => {
      installation = undefined;
      throw error;
    });
    return installation;
  }

  function clientOf(stampId: StampId): StampClient {
    const client = clients.get(stampId);
    if (client !== undefined) return client;
    throw unknownStamp(stampId);
  }

  /** Once in the life of this process; what failed is tried again by the next who needs it. */
  function prepare(client: StampClient, { tenantId: _tenantId, ...common }: Errand): Promise<void> {
    const { id } = client.stamp;
    const running =
      prepared.get(id) ??
      prepareStamp(client, common).catch((error: unknown) => {
        prepared.delete(id);
        throw error;
      });
    prepared.set(id, running);
    return running;
  }

  async function sightOf(client: StampClient, record: AzureRecord, app: ContainerApp, revisions?: Sight["revisions"]) {
    const own = { client, installation: await readInstallation() };
    const drift = record.spec === undefined ? [] : driftFrom(own, record.spec, app);
    return { tenantId: record.tenantId, spec: record.spec, app, revisions, drift };
  }

  async function withHealth(seen: ObservedRuntime): Promise<ObservedRuntime> {
    if (seen.state !== "running" || seen.address === undefined) return seen;
    const problem = await probe(agent, seen.address);
    return problem === undefined ? seen : { ...seen, state: "starting", reason: problem };
  }

  async function observe(client: StampClient, errand: Errand, record: AzureRecord): Promise<ObservedRuntime> {
    const { tenantId } = record;
    const app = await getApp(client, errand, { tenantId, installation: await readInstallation() });
    if (app === undefined) return withoutApp(record);
    return judge(client, record, { app, revisions: await listRevisions(client, errand, runtimeName(tenantId)) });
  }

  async function judge(client: StampClient, record: AzureRecord, { app, revisions }: Applied) {
    const address = addressOf(app);
    if (address !== record.address) await records.change(record.tenantId, { address });
    return withHealth(observeApp(await sightOf(client, record, app, revisions)));
  }

  /** What has a spec and sleeps needs no app to be asleep: everything is kept, and waking makes it. */
  function withoutApp({ tenantId, spec, desired }: AzureRecord): ObservedRuntime {
    if (spec === undefined || desired === "awake") return absentRuntime(tenantId);
    return { ...absentRuntime(tenantId), state: "asleep", specHash: spec.hash };
  }

  /** Whether it was just given this spec and is not healthy yet: asking it costs nothing, asking Azure does. */
  async function isStarting({ tenantId, address, spec, desired }: AzureRecord, hash: string): Promise<boolean> {
    const last = starting.get(tenantId);
    if (address === undefined || desired === "asleep" || spec?.hash !== hash || last?.hash !== hash) return false;
    return performance.now() - last.at < LOOK_MS && (await probe(agent, address)) !== undefined;
  }

  async function ensure(spec: RuntimeSpec, errand: Errand): Promise<ObservedRuntime> {
    const { tenantId } = spec;
    clientOf(spec.stampId);
    await records.create(tenantId, spec.stampId);
    const known = await recordOf(tenantId);
    if (await isStarting(known, spec.hash)) {
      const { image, hash: specHash } = spec;
      return {
        ...absentRuntime(tenantId),
        state: "starting",
        address: known.address,
        image,
        specHash,
        reason: "it starts",
      };
    }
    const client = clientOf(known.stampId);
    if (known.desired === "asleep" && readsOthers(known.spec, spec)) {
      // In force within minutes, for which its next wake should not have to wait.
      await settleAccess({ client, records, installation: await readInstallation() }, errand, spec);
    }
    await records.change(tenantId, { spec });
    const record = { ...known, spec };
    return record.desired === "asleep" ? observe(client, errand, record) : bringUp(client, errand, record, spec);
  }

  async function bringUp(client: StampClient, errand: Errand, record: AzureRecord, spec: RuntimeSpec) {
    const { tenantId } = record;
    const own = await readInstallation();
    const app = await getSettledApp(client, errand, { tenantId, installation: own });
    const room = roomOf(client.stamp, options.stamps);
    const prepareIt = () => prepare(client, errand);
    const { granted } = record;
    const application = { client, records, installation: own, room, granted, inTurn, prepare: prepareIt };
    const seen = await judge(client, record, await applySpec(application, errand, spec, app));
    if (seen.state === "starting") starting.set(tenantId, { hash: seen.specHash, at: performance.now() });
    else starting.delete(tenantId);
    return seen;
  }

  async function recordOf(tenantId: TenantId): Promise<AzureRecord> {
    const record = await records.find(tenantId);
    if (record !== undefined) return record;
    throw absent(tenantId);
  }

  async function sleep(tenantId: TenantId, errand: Errand): Promise<ObservedRuntime> {
    const record = await records.find(tenantId);
    if (record?.spec === undefined) return stopUnknown(tenantId, errand, record);
    await records.change(tenantId, { desired: "asleep" });
    const client = clientOf(record.stampId);
    const app = await getSettledApp(client, errand, { tenantId, installation: await readInstallation() });
    const asleep: AzureRecord = { ...record, desired: "asleep" };
    if (app === undefined) return withoutApp(asleep);
    const revisions = await listRevisions(client, errand, runtimeName(tenantId));
    await stopRevisions(client, errand, runtimeName(tenantId), revisions);
    // Each was read back to be stopped.
    return judge(client, asleep, { app, revisions: [] });
  }

  /** What nobody remembers, as when an older database was restored, must not run on either. */
  async function stopUnknown(tenantId: TenantId, errand: Errand, record: AzureRecord | undefined) {
    for (const client of clientsOf(record)) {
      const app = await getSettledApp(client, errand, { tenantId, installation: await readInstallation() });
      if (app === undefined) continue;
      const revisions = await listRevisions(client, errand, runtimeName(tenantId));
      await stopRevisions(client, errand, runtimeName(tenantId), revisions);
      return observeApp({ tenantId, spec: undefined, app, revisions: [], drift: [] });
    }
    return absentRuntime(tenantId);
  }

  async function wake(tenantId: TenantId, errand: Errand): Promise<ObservedRuntime> {
    const record = await recordOf(tenantId);
    if (record.spec === undefined) throw absent(tenantId);
    await records.change(tenantId, { desired: "awake" });
    return bringUp(clientOf(record.stampId), errand, { ...record, desired: "awake" }, record.spec);
  }

  /** Where a tenant is known to be, else everywhere. */
  function clientsOf(record: AzureRecord | undefined): StampClient[] {
    return record === undefined ? [...clients.values()] : [clientOf(record.stampId)];
  }

  /** In the reverse order of making it; each is read back to be gone. @returns the stamps where there was anything. */
  async function remove(tenantId: TenantId, errand: Errand): Promise<StampClient[]> {
    const record = await records.find(tenantId);
    const owner = { tenantId, installation: await readInstallation() };
    const touched: StampClient[] = [];
    for (const client of clientsOf(record)) {
      if (record !== undefined || (await getApp(client, errand, owner)) !== undefined) touched.push(client);
      await removeApp(client, errand, owner);
      await removeIdentity(client, errand, owner, record?.principalId);
    }
    starting.delete(tenantId);
    await records.empty(tenantId);
    return touched;
  }

  async function erase(tenantId: TenantId, errand: Errand): Promise<void> {
    for (const client of await remove(tenantId, errand)) {
      await prepare(client, errand);
      await eraseState({ client, installation: await readInstallation(), inTurn }, errand, tenantId);
    }
    await records.forget(tenantId);
  }

  async function inspect(tenantId: TenantId, errand: Errand): Promise<ObservedRuntime> {
    const record = await records.find(tenantId);
    if (record !== undefined) return observe(clientOf(record.stampId), errand, record);
    for (const client of clients.values()) {
      const app = await getApp(client, errand, { tenantId, installation: await readInstallation() });
      if (app !== undefined) return observeApp({ tenantId, spec: undefined, app, revisions: undefined, drift: [] });
    }
    return absentRuntime(tenantId);
  }

  async function list(call: DriverCall): Promise<ObservedRuntime[]> {
    const own = await readInstallation();
    // A sweep has a quarter of the budget, which the apps alone may take.
    const withLeftovers = call.urgency !== "sweep";
    const slots = createSlots(PROBES);
    const seen: Promise<ObservedRuntime>[] = [];
    const found = new Set<TenantId>();
    for (const client of clients.values()) {
      const apps = await listApps(client, call, own);
      const leftovers = withLeftovers ? await listIdentities(client, call, own) : new Set<TenantId>();
      // Read after the apps: what has come meanwhile is remembered already.
      const known = await records.all();
      for (const [tenantId, app] of apps) {
        found.add(tenantId);
        const record = known.get(tenantId) ?? unknownRecord(tenantId, client.stamp.id);
        const sight = await sightOf(client, record, app);
        seen.push(slots.use(() => withHealth(observeApp(sight))));
      }
      for (const tenantId of leftovers) {
        const record = known.get(tenantId);
        // One that sleeps without an app, as when it was given up half-made, has its identity by right.
        const isAsleep = record !== undefined && withoutApp(record).state === "asleep";
        if (found.has(tenantId) || isAsleep) continue;
        found.add(tenantId);
        seen.push(Promise.resolve(leftBehind(tenantId)));
      }
    }
    for (const record of (await records.all()).values())
      if (!found.has(record.tenantId) && withoutApp(record).state === "asleep")
        seen.push(Promise.resolve(withoutApp(record)));
    return Promise.all(seen);
  }

  return {
    name: "azure",
    ensure: (spec, call = {}) => exclusively(spec.tenantId, call, (errand) => ensure(spec, errand)),
    inspect: (tenantId, call = {}) => inspect(tenantId, { ...call, tenantId }),
    list: (call = {}) => list(call),
    sleep: (tenantId, call = {}) => exclusively(tenantId, call, (errand) => sleep(tenantId, errand)),
    wake: (tenantId, call = {}) => exclusively(tenantId, call, (errand) => wake(tenantId, errand)),
    remove: (tenantId, call = {}) =>
      exclusively(tenantId, call, async (errand) => {
        await remove(tenantId, errand);
      }),
    erase: (tenantId, call = {}) => exclusively(tenantId, call, (errand) => erase(tenantId, errand)),
    async close() {
      await agent.destroy();
    },
  };
}

function absent(tenantId: TenantId): NotFoundError {
  return new NotFoundError("runtime_absent", `Tenant ${tenantId} has no runtime; provision it first.`);
}

/** Whether the vault's secrets are others than before. */
function readsOthers(before: RuntimeSpec | undefined, { secrets }: RuntimeSpec): boolean {
  const had = new Set(Object.values(before?.secrets ?? secrets));
  return Object.values(secrets).some((name) => !had.has(name));
}

/** For what bears our mark and nobody remembers. */
function unknownRecord(tenantId: TenantId, stampId: StampId): AzureRecord {
  return {
    tenantId,
    stampId,
    spec: undefined,
    desired: "awake",
    principalId: undefined,
    address: undefined,
    granted: undefined,
  };
}
