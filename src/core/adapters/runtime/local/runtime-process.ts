import type { ChildProcess } from "node:child_process";
import { rm } from "node:fs/promises";
import type { Log } from "../../../platform/log.ts";
import { moveToFreePorts } from "./allocation.ts";
import { runtimeEnvironment } from "./environment.ts";
import { readIfThere, writeDurably } from "./files.ts";
import { ownerOf } from "./isolation.ts";
import { localiseConfig } from "./localise.ts";
import { isPortFree } from "./ports.ts";
import { startProcess, stopProcess } from "./processes.ts";
import type { Program } from "./program.ts";
import {
  makeFolder,
  readProcess,
  writeProcess,
  type ProcessRecord,
  type RuntimeRecord,
  type TenantPaths,
} from "./tenant-folder.ts";
import { validateWithBinary } from "./validate.ts";

export type LocalRuntimes = {
  root: string;
  vault: { get(name: string): Promise<string | undefined> };
  log: Pick<Log, "info" | "warn" | "error">;
  program(): Promise<Program>;
};

/**
 * Everything that may refuse a spec, before anything is touched: its secrets, and the configuration in the eyes of the real binary.
 * @throws ConfigError
 */
export async function checkSpec(local: LocalRuntimes, paths: TenantPaths, record: RuntimeRecord): Promise<void> {
  const program = await local.program();
  const env = await runtimeEnvironment(record.spec, paths, { node: program.node, vault: local.vault });
  if (program.kind === "sandbox") return;
  const owner = ownerOf(record);
  await makeFolder(paths, owner);
  try {
    await writeDurably(paths.candidate, configText(paths, record), configAccess(record));
    const candidateEnv = { ...env, OPENCLAW_CONFIG_PATH: paths.candidate };
    await validateWithBinary(program, { slug: record.spec.slug, cwd: paths.home, env: candidateEnv, owner });
  } finally {
    await rm(paths.candidate, { force: true });
  }
}

/** Starts what the record says, the configuration written anew. The caller holds the tenant's lock and knows that its process is gone. */
export async function launch(
  local: LocalRuntimes,
  paths: TenantPaths,
  wanted: RuntimeRecord,
  previous: { failures: number; lastExit: string | null },
): Promise<{ child: ChildProcess; process: ProcessRecord }> {
  // The real OpenClaw works in children of the process on record; killed alone, it leaves them with the state in their hands.
  const before = await readProcess(paths);
  if (before !== undefined) await stopProcess(before);
  const program = await local.program();
  // Ports are kept, but nobody guards them while a runtime is down.
  const isFree = (await isPortFree(wanted.gatewayPort)) && (await isPortFree(wanted.webhookPort));
  const record = isFree ? wanted : await moveToFreePorts(local.root, wanted);
  const { spec } = record;
  const env = await runtimeEnvironment(spec, paths, { node: program.node, vault: local.vault });
  const owner = ownerOf(record);
  await makeFolder(paths, owner);
  await writeDurably(paths.config, configText(paths, record), configAccess(record));
  let started: ProcessRecord | undefined;
  const args =
    program.kind === "real" ? [...program.args, "gateway", "--port", String(record.gatewayPort)] : program.args;
  const child = await startProcess(
    { command: program.command, args, cwd: paths.home, env, owner, logFile: paths.log },
    async (identity) => {
      started = { ...identity, specHash: spec.hash, image: program.name, ...previous };
      await writeProcess(paths, started);
    },
  );
  if (started === undefined) throw new Error("a process started without being recorded");
  local.log.info(
    { tenantId: spec.tenantId, pid: started.pid, program: program.kind, port: record.webhookPort },
    "runtime started",
  );
  return { child, process: started };
}

/** Ends the process if there is one and forgets it. */
export async function halt(paths: TenantPaths): Promise<void> {
  const running = await readProcess(paths);
  if (running !== undefined) await stopProcess(running);
  await rm(paths.process, { force: true });
}

/** Keeps the configuration in force as the last good one. */
export async function keepLastGood(paths: TenantPaths): Promise<void> {
  const current = await readIfThere(paths.config);
  if (current !== undefined) await writeDurably(paths.lastGood, current, { mode: 0o600 });
}

function configText(paths: TenantPaths, record: RuntimeRecord): string {
  const { gatewayPort, webhookPort } = record;
  const config = localiseConfig(record.spec.config, {
    gatewayPort,
    webhookPort,
    workspace: `${paths.state}/workspace`,
    logFile: `${paths.tmp}/openclaw.log`,
  });
  return `${JSON.stringify(config, null, 2)}\n`;
}

/** Ours to write, the runtime's to read. */
function configAccess(record: RuntimeRecord) {
  const owner = ownerOf(record);
  return owner === undefined ? { mode: 0o600 } : { mode: 0o640, owner: { uid: 0, gid: owner.gid } };
}
