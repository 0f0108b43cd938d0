import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { chmod, chown, mkdir, mkdtemp, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { totalmem } from "node:os";
import path from "node:path";
import { type Account, type Binaries, runPg, USE_A_SERVER } from "./embedded-postgres-binaries.ts";
import { ConfigError } from "./errors.ts";

/** Where everything of one embedded database lies. `folder` appears complete or not at all. */
export type Cluster = { dataDir: string; folder: string; data: string; postmaster: string; log: string; state: string };

/** What is needed to connect and to start again; readable by its owner alone. */
type State = { password: string; port: number | undefined };

const DRAFT = "postgres.init-";

const SETTINGS = {
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  max_connections: "200",
  // What a million tenants need fits into a gigabyte. It is taken as it is used, not at the start.
  shared_buffers: `${Math.round(Math.min(1_024, Math.max(128, totalmem() / 2 ** 20 / 8)))}MB`,
  timezone: "UTC",
  log_timezone: "UTC",
  // The log must not repeat what people wrote (F91).
  log_error_verbosity: "terse",
  log_min_error_statement: "panic",
};

export function clusterOf(dataDir: string): Cluster {
  const resolved = path.resolve(dataDir);
  return clusterIn(path.join(resolved, "postgres"), resolved);
}

function clusterIn(folder: string, dataDir: string): Cluster {
  const data = path.join(folder, "data");
  return {
    dataDir,
    folder,
    data,
    postmaster: path.join(data, "postmaster.pid"),
    log: path.join(folder, "server.log"),
    state: path.join(folder, "state.json"),
  };
}

/** Undefined while the cluster has not been made. @throws ConfigError when it belongs to somebody else. */
export function readState(cluster: Cluster): State | undefined {
  const text = readOptional(cluster.state);
  return text === undefined ? undefined : (JSON.parse(text) as State);
}

/** Remembers the port, so that it stays the same from start to start. */
export async function rememberPort(cluster: Cluster, state: State, port: number): Promise<void> {
  if (state.port === port) return;
  const draft = `${cluster.state}.${process.pid}`;
  await writeFile(draft, JSON.stringify({ ...state, port }), { mode: 0o600 });
  if (process.getuid?.() === 0) {
    const { uid, gid } = await stat(cluster.folder);
    await chown(draft, uid, gid);
  }
  await rename(draft, cluster.state);
}

/** The server that holds the data folder now; its port is the one that it really listens on. */
export function readPostmaster(cluster: Cluster): { port: number; ready: boolean } | undefined {
  const lines = readOptional(cluster.postmaster)?.split("\n");
  if (!lines || !isPostmaster(Number(lines[0]), cluster.data)) return undefined;
  return { port: Number(lines[3]), ready: lines[7]?.trim() === "ready" };
}

/**
 * After a crash, the process id in postmaster.pid may be another program's by now, which PostgreSQL would take for a
 * server of its own. A file whose process is gone is left to PostgreSQL.
 */
export async function removeStalePostmasterFile(cluster: Cluster): Promise<void> {
  const text = readOptional(cluster.postmaster);
  const pid = Number(text?.split("\n", 1)[0]);
  if (text === undefined || !isAlive(pid) || isPostmaster(pid, cluster.data)) return;
  // Moved away and looked at again, so that the file of a server started meanwhile is never the one removed.
  const aside = `${cluster.postmaster}.${process.pid}`;
  await rename(cluster.postmaster, aside);
  if (readOptional(aside) === text) await rm(aside);
  else await rename(aside, cluster.postmaster);
}

/**
 * Makes the database cluster, unless another process does so first. It is prepared beside its final place and moved
 * there in one step, so that a crash half-way leaves only a draft, which the next attempt removes.
 */
export async function initialise(
  cluster: Cluster,
  binaries: Binaries,
  account: Account,
  fsync: boolean,
): Promise<void> {
  await removeAbandonedDrafts(cluster.dataDir);
  const draft = clusterIn(await mkdtemp(path.join(cluster.dataDir, `${DRAFT}${process.pid}-`)), cluster.dataDir);
  try {
    await fillDraft(draft, binaries, account, fsync);
    await rename(draft.folder, cluster.folder);
  } catch (error) {
    if (readState(cluster) === undefined) throw error;
  } finally {
    await rm(draft.folder, { recursive: true, force: true });
  }
}

async function fillDraft(draft: Cluster, binaries: Binaries, account: Account, fsync: boolean): Promise<void> {
  const password = randomBytes(24).toString("base64url");
  const passwordFile = path.join(draft.folder, "password");
  await mkdir(draft.data, { mode: 0o700 });
  await writeFile(draft.log, "", { mode: 0o640 });
  await writeFile(passwordFile, password, { mode: 0o600 });
  if (account) {
    await chmod(draft.folder, 0o711);
    for (const file of [draft.data, draft.log, passwordFile]) await chown(file, account.uid, account.gid);
  }
  const settings = Object.entries(SETTINGS).map(([name, value]) => `--set=${name}=${value}`);
  const initdb = [
    `--pgdata=${draft.data}`,
    "--username=openclaw",
    `--pwfile=${passwordFile}`,
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    ...settings,
    ...(fsync ? [] : ["--no-sync"]),
  ];
  await runOrThrow(binaries, account, "initdb", initdb);
  await rm(passwordFile);
  const single = ["--single", "-D", draft.data, ...(fsync ? [] : ["-c", "fsync=off"]), "postgres"];
  await runOrThrow(binaries, account, "postgres", single, "CREATE DATABASE openclaw\n");
  await writeFile(draft.state, JSON.stringify({ password } satisfies Partial<State>), { mode: 0o600 });
}

async function runOrThrow(
  binaries: Binaries,
  account: Account,
  name: "initdb" | "postgres",
  args: readonly string[],
  input = "",
): Promise<void> {
  const { code, output } = await runPg(binaries, account, { name, args, input });
  // Single-user mode exits with 0 after an error, too.
  if (code === 0 && !/\b(ERROR|FATAL|PANIC):/.test(output)) return;
  throw new ConfigError("embedded_postgres_initdb", [
    `The embedded PostgreSQL can't be set up, ${name} failed: ${output}\n${USE_A_SERVER}`,
  ]);
}

async function removeAbandonedDrafts(dataDir: string): Promise<void> {
  for (const name of await readdir(dataDir)) {
    const pid = name.startsWith(DRAFT) ? Number.parseInt(name.slice(DRAFT.length), 10) : undefined;
    if (pid !== undefined && !isAlive(pid)) await rm(path.join(dataDir, name), { recursive: true, force: true });
  }
}

/** After a crash, the number in the file may belong to another program by now: what it was started with tells. */
function isPostmaster(pid: number, data: string): boolean {
  if (!isAlive(pid)) return false;
  if (process.platform === "linux") return readOptional(`/proc/${pid}/cmdline`)?.includes(data) ?? false;
  return execFileSync("/bin/ps", ["-p", String(pid), "-o", "command="], { encoding: "utf8" }).includes(data);
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    return process.kill(pid, 0);
  } catch (error) {
    // EPERM: it lives, and belongs to another user.
    return errorCode(error) === "EPERM";
  }
}

function readOptional(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    const code = errorCode(error);
    // ENOTDIR: nothing can be below a file. ESRCH: the process ended while its file in /proc was read.
    if (code === "ENOENT" || code === "ENOTDIR" || code === "ESRCH") return undefined;
    if (code !== "EACCES") throw error;
    const problem = `${file} belongs to another user. Run as that user, or set OPENCLAW_DATA_DIR to a folder of your own.`;
    throw new ConfigError("data_dir_not_readable", [problem], { cause: error });
  }
}

export function errorCode(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}
