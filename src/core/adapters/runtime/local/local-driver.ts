import type { ChildProcess } from "node:child_process";
import { NotFoundError } from "../../../platform/errors.ts";
import type { TenantId } from "../../../platform/ids.ts";
import type { Log } from "../../../platform/log.ts";
import { absentRuntime, type ObservedRuntime, type RuntimeDriver, type RuntimeSpec } from "../runtime-driver.ts";
import { createRecord, lockFile } from "./allocation.ts";
import { withFileLock } from "./file-lock.ts";
import { prepareRoot } from "./isolation.ts";
import { describeEnd, observeRuntime, processKey, sightProcess } from "./observe.ts";
import { findProgram } from "./program.ts";
import { checkSpec, halt, keepLastGood, launch, type LocalRuntimes } from "./runtime-process.ts";
import { startSupervisor, type Sighting, type Supervision } from "./supervisor.ts";
import {
  listTenants,
  readProcess,
  readRecord,
  removeAllButState,
  removeEverything,
  tenantPaths,
  writeProcess,
  writeRecord,
  type ProcessRecord,
  type RuntimeRecord,
} from "./tenant-folder.ts";

/** The exit code with which OpenClaw says that no restart can help. */
const EXIT_CONFIGURATION = 78;

/** The file that a runtime's output goes to. */
export function runtimeLogPath(root: string, tenantId: TenantId): string {
  return tenantPaths(root, tenantId).log;
}

/**
 * Runtimes as child processes of this machine, one folder each below `root`. They outlive us and are found again by what lies in their
 * folders, which is the only state: several daemons and commands may work on one `root`, each operation under the tenant's lock. While
 * open, a driver that supervises starts runtimes again that died; exit code 78 is final until the spec changes, or the runtime is slept
 * and woken.
 */
export function createLocalDriver(options: {
  root: string;
  /** A real OpenClaw; undefined: the sandbox runtime. */
  binary: string | undefined;
  vault: { get(name: string): Promise<string | undefined> };
  log: Pick<Log, "info" | "warn" | "error">;
  /** False for whoever only passes by. */
  supervises?: boolean;
}): RuntimeDriver {
  const { root, log } = options;
  const prepare = onceItWorks(() => prepareRoot(root));
  // Apart: what exists can be seen, slept and removed without a program to start.
  const program = onceItWorks(() => findProgram(options.binary));
  const recordings = new Set<Promise<void>>();
  let closed = false;

  async function exclusively<T>(tenantId: TenantId, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    await prepare();
    return withFileLock(lockFile(root, tenantId), work, signal);
  }
  const local: LocalRuntimes = { root, vault: options.vault, log, program };
  const observe = (tenantId: TenantId): Promise<ObservedRuntime> => observeRuntime(root, tenantId);

  async function start(record: RuntimeRecord, previous: Pick<ProcessRecord, "failures" | "lastExit">): Promise<void> {
    const { tenantId } = record.spec;
    const { child, process } = await launch(local, tenantPaths(root, tenantId), record, previous);
    watchExit(tenantId, child, process);
  }

  /** Only whoever started a process learns how it ended, so it writes that down for all. */
  function watchExit(tenantId: TenantId, child: ChildProcess, started: ProcessRecord): void {
    child.once("exit", (code, signal) => {
      if (closed) return;
      const recording = exclusively(tenantId, () => recordExit(tenantId, started, code, signal))
        .catch((error: unknown) => log.error({ tenantId, error }, "the end of a runtime could not be recorded"))
        .finally(() => recordings.delete(recording));
      recordings.add(recording);
    });
  }

  async function recordExit(
    tenantId: TenantId,
    ended: ProcessRecord,
    code: number | null,
    signal: string | null,
  ): Promise<void> {
    const paths = tenantPaths(root, tenantId);
    const record = await readRecord(paths);
    const current = await readProcess(paths);
    // Stopped on purpose, or replaced.
    if (record === undefined || current === undefined || processKey(current) !== processKey(ended)) return;
    const lastExit = signal === null ? `exited with code ${code}` : `was ended by ${signal}`;
    log.warn({ tenantId, pid: ended.pid, code, signal }, "runtime ended by itself");
    await writeProcess(paths, { ...current, lastExit });
    if (code !== EXIT_CONFIGURATION) return;
    await writeRecord(paths, {
      ...record,
      failure: `it ${lastExit}: its configuration or state is in error; see ${paths.log}`,
    });
  }

  async function ensure(spec: RuntimeSpec, signal: AbortSignal | undefined): Promise<ObservedRuntime> {
    const paths = tenantPaths(root, spec.tenantId);
    const existing = await readRecord(paths);
    if (existing === undefined) {
      await create(spec);
      return observe(spec.tenantId);
    }
    const known = await readProcess(paths);
    const isInForce = existing.spec.hash === spec.hash && (known === undefined || known.specHash === spec.hash);
    // One that died is left to supervision, which knows how long to wait.
    if (isInForce && (existing.desired === "asleep" || known !== undefined)) return observe(spec.tenantId);

    const next: RuntimeRecord = { ...existing, spec, failure: null };
    await checkSpec(local, paths, next);
    signal?.throwIfAborted();
    if (existing.failure === null) await keepLastGood(paths);
    await halt(paths);
    await writeRecord(paths, next);
    if (next.desired === "awake") await start(next, { failures: 0, lastExit: null });
    return observe(spec.tenantId);
  }

  async function create(spec: RuntimeSpec): Promise<void> {
    const record = await createRecord(root, spec);
    try {
      await checkSpec(local, tenantPaths(root, spec.tenantId), record);
    } catch (error) {
      // A runtime that was refused must not be found by supervision.
      await removeAllButState(tenantPaths(root, spec.tenantId));
      throw error;
    }
    await start(record, { failures: 0, lastExit: null });
  }

  const supervision: Supervision = {
    async look() {
      await prepare();
      const sightings = new Map<TenantId, Sighting>();
      for (const tenantId of await listTenants(root)) {
        try {
          if (await isWanted(tenantId)) sightings.set(tenantId, await sightProcess(root, tenantId));
        } catch (error) {
          // Records that can't be read must not leave the other tenants unattended.
          log.error({ tenantId, error }, "the records of a runtime can't be read");
        }
      }
      return sightings;
    },
    restart: (tenantId, seen) => exclusively(tenantId, () => restart(tenantId, seen)),
    settle: (tenantId, seen) => exclusively(tenantId, () => settle(tenantId, seen)),
    onError: (error, tenantId) =>
      log.error({ ...(tenantId === undefined ? {} : { tenantId }), error }, "supervision of runtimes failed"),
  };
  const supervisor = options.supervises === false ? undefined : startSupervisor(supervision);

  async function isWanted(tenantId: TenantId): Promise<boolean> {
    const record = await readRecord(tenantPaths(root, tenantId));
    return record?.desired === "awake" && record.failure === null;
  }

  async function restart(tenantId: TenantId, seen: Sighting): Promise<void> {
    const paths = tenantPaths(root, tenantId);
    const record = await readRecord(paths);
    if (closed || record === undefined || record.desired === "asleep" || record.failure !== null) return;
    const now = await sightProcess(root, tenantId);
    if (now.alive || now.process !== seen.process) return;
    const known = await readProcess(paths);
    const failures = known === undefined ? 0 : known.failures + 1;
    log.warn({ tenantId, failures, reason: describeEnd(known) }, "starting a runtime that is not there");
    await start(record, { failures, lastExit: known?.lastExit ?? null });
  }

  async function settle(tenantId: TenantId, seen: Sighting): Promise<void> {
    const paths = tenantPaths(root, tenantId);
    const known = await readProcess(paths);
    if (known === undefined || processKey(known) !== seen.process) return;
    if ((await observe(tenantId)).state === "running") await writeProcess(paths, { ...known, failures: 0 });
  }

  return {
    name: "local",
    ensure: (spec, { signal } = {}) => exclusively(spec.tenantId, () => ensure(spec, signal), signal),
    inspect: (tenantId) => observe(tenantId),
    async list() {
      await prepare();
      const observed = await Promise.all((await listTenants(root)).map(observe));
      return observed.filter(({ state }) => state !== "absent");
    },
    sleep: (tenantId) =>
      exclusively(tenantId, async () => {
        const paths = tenantPaths(root, tenantId);
        const record = await readRecord(paths);
        if (record === undefined) return absentRuntime(tenantId);
        if (record.desired !== "asleep") await writeRecord(paths, { ...record, desired: "asleep" });
        await halt(paths);
        return observe(tenantId);
      }),
    wake: (tenantId) =>
      exclusively(tenantId, async () => {
        const paths = tenantPaths(root, tenantId);
        const record = await readRecord(paths);
        if (record === undefined)
          throw new NotFoundError("runtime_absent", `Tenant ${tenantId} has no runtime; provision it first.`);
        if (record.desired === "awake" && (await readProcess(paths)) !== undefined) return observe(tenantId);
        // What a sleep that was cut off left running must be gone before another starts.
        await halt(paths);
        const awake: RuntimeRecord = { ...record, desired: "awake", failure: null };
        await writeRecord(paths, awake);
        await start(awake, { failures: 0, lastExit: null });
        return observe(tenantId);
      }),
    remove: (tenantId) =>
      exclusively(tenantId, async () => {
        const paths = tenantPaths(root, tenantId);
        const record = await readRecord(paths);
        // So that supervision leaves it alone if we are cut off.
        if (record !== undefined) await writeRecord(paths, { ...record, desired: "asleep" });
        await halt(paths);
        await removeAllButState(paths);
        log.info({ tenantId }, "runtime removed, its state kept");
      }),
    erase: (tenantId) =>
      exclusively(tenantId, async () => {
        const paths = tenantPaths(root, tenantId);
        const record = await readRecord(paths);
        if (record !== undefined) await writeRecord(paths, { ...record, desired: "asleep" });
        await halt(paths);
        await removeEverything(paths);
        log.info({ tenantId }, "runtime and state erased");
      }),
    async close() {
      closed = true;
      await supervisor?.stop();
      await Promise.all(recordings);
    },
  };
}

/** Remembers the first success; what fails now, such as for a folder's mode, may be mended by the next try. */
function onceItWorks<T>(attempt: () => Promise<T>): () => Promise<T> {
  let outcome: Promise<T> | undefined;
  return () => {
    outcome ??= attempt().catch((error: unknown) => {
      outcome = undefined;
      throw error;
    });
    return outcome;
  };
}
