import { once } from "node:events";
import { chmod, open, readFile, stat } from "node:fs/promises";
import { createServer } from "node:net";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { makeDataDir } from "./data-dir.ts";
import { type Account, type Binaries, firstClosedFolder, locateBinaries, runPg } from "./embedded-postgres-binaries.ts";
import {
  type Cluster,
  clusterOf,
  errorCode,
  initialise,
  readPostmaster,
  readState,
  rememberPort,
  removeStalePostmasterFile,
} from "./embedded-postgres-cluster.ts";
import { ConfigError, UpstreamError } from "./errors.ts";

/** PostgreSQL refuses to run as root; this is `nobody`, which exists everywhere and needs no entry in /etc/passwd. */
const NOBODY = { uid: 65_534, gid: 65_534 };
/** After a crash, PostgreSQL won't start before the last of its old processes has noticed (about 2 s). */
const START_TIMEOUT_MS = 60_000;
const RETRY_MS = 100;
/** How long to wait for the port, which a server that is just ending may hold. */
const PORT_PATIENCE_MS = 5_000;
const PORT_TAKEN = "its port is in use";
const LOG_TAIL_BYTES = 2_000;

/**
 * A real PostgreSQL under `dataDir`, started unless it runs. It outlives the process that starts it and is shared by
 * all that use the folder; of several that start it at once, one wins and all get its URL. Run as root, PostgreSQL itself
 * runs as the owner of its data, `nobody` at first. It keeps the port of its first start: that is where everybody who was
 * connected looks for it. `fsync: false` is for data that may be lost.
 * @throws ConfigError when this machine or the folder doesn't allow it; UpstreamError when the server doesn't start.
 */
export async function startEmbeddedPostgres(options: { dataDir: string; fsync?: boolean }): Promise<{ url: string }> {
  const running = await findEmbeddedPostgres(options);
  if (running) return running;

  const cluster = clusterOf(options.dataDir);
  const fsync = options.fsync ?? true;
  await makeDataDir(cluster.dataDir);
  const account = await chooseAccount(cluster);
  if (account) await openTheWay(cluster);
  const binaries = await locateBinaries(account, cluster.dataDir);
  if (!readState(cluster)) await initialise(cluster, binaries, account, fsync);
  await checkVersion(cluster, binaries);

  const begun = performance.now();
  for (;;) {
    const waitedMs = performance.now() - begun;
    const said = await tryStart(cluster, { binaries, account, fsync });
    const started = await findEmbeddedPostgres(options);
    if (started) return started;
    if (said === PORT_TAKEN && waitedMs > PORT_PATIENCE_MS) throw portTaken(cluster);
    if (waitedMs > START_TIMEOUT_MS) throw await startFailure(cluster, said);
    await delay(RETRY_MS);
  }
}

/** The running embedded database of `dataDir`; cheap enough for every command (two small files, no connection). */
export async function findEmbeddedPostgres(options: { dataDir: string }): Promise<{ url: string } | undefined> {
  const cluster = clusterOf(options.dataDir);
  const state = readState(cluster);
  const postmaster = state && readPostmaster(cluster);
  if (!state || !postmaster?.ready) return undefined;
  return { url: `postgres://openclaw:${state.password}@127.0.0.1:${postmaster.port}/openclaw?sslmode=disable` };
}

/** Stops the embedded database of `dataDir`, closing its connections; nothing to do when it doesn't run. */
export async function stopEmbeddedPostgres(options: { dataDir: string }): Promise<void> {
  const cluster = clusterOf(options.dataDir);
  if (!readState(cluster) || !readPostmaster(cluster)) return;
  const account = await chooseAccount(cluster);
  const binaries = await locateBinaries(account, cluster.dataDir);
  const args = ["stop", "--pgdata", cluster.data, "--mode=fast", "--wait", "--timeout=30"];
  const { output } = await runPg(binaries, account, { name: "pg_ctl", args });
  if (readPostmaster(cluster))
    throw upstream("embedded_postgres_stop", `The embedded PostgreSQL doesn't stop: ${output}`);
}

/** One attempt; what pg_ctl said. Whether a server runs afterwards, this one's or another's, is to be looked up. */
async function tryStart(
  cluster: Cluster,
  how: { binaries: Binaries; account: Account; fsync: boolean },
): Promise<string> {
  if (readPostmaster(cluster)) return "another process is starting or stopping it";
  const state = readState(cluster);
  if (!state) return "the database cluster is gone";
  await removeStalePostmasterFile(cluster);
  const port = await openPort(state.port ?? 0);
  if (port === undefined) return PORT_TAKEN;
  const unsafe = how.fsync ? "" : " -c fsync=off -c synchronous_commit=off -c full_page_writes=off";
  const files = ["--pgdata", cluster.data, "--log", cluster.log];
  const args = ["start", ...files, "--wait", "--timeout=30", "-o", `-p ${port}${unsafe}`];
  const { code, output } = await runPg(how.binaries, how.account, { name: "pg_ctl", args });
  if (code === 0) await rememberPort(cluster, state, port);
  return output;
}

async function chooseAccount(cluster: Cluster): Promise<Account> {
  if (process.getuid?.() !== 0) return undefined;
  try {
    const { uid, gid } = await stat(cluster.data);
    return { uid, gid };
  } catch (error) {
    if (errorCode(error) === "ENOENT") return NOBODY;
    throw error;
  }
}

/** Lets PostgreSQL's account through the data folder, which is ours; the folders above are not, and stay as they are. */
async function openTheWay(cluster: Cluster): Promise<void> {
  const { mode } = await stat(cluster.dataDir);
  await chmod(cluster.dataDir, mode | 0o111);
  const closed = await firstClosedFolder(cluster.dataDir);
  if (closed === undefined) return;
  throw new ConfigError("data_dir_not_reachable", [
    `The embedded PostgreSQL can't run as root, and other users can't enter ${closed}. ` +
      "Set OPENCLAW_DATA_DIR to a folder that they can reach (e.g. /var/lib/openclaw), or DATABASE_URL to a PostgreSQL server.",
  ]);
}

async function checkVersion(cluster: Cluster, binaries: Binaries): Promise<void> {
  const found = (await readFile(path.join(cluster.data, "PG_VERSION"), "utf8")).trim();
  if (found === binaries.major) return;
  throw new ConfigError("embedded_postgres_version", [
    `The embedded database in ${cluster.folder} was made by PostgreSQL ${found}; this release brings ${binaries.major}. ` +
      "Dump it with the release that made it and restore into a new folder (OPENCLAW_DATA_DIR), or set DATABASE_URL.",
  ]);
}

/** `port` when nobody listens on it, any free one when it is 0. */
async function openPort(port: number): Promise<number | undefined> {
  const server = createServer();
  try {
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
  } catch (error) {
    if (errorCode(error) === "EADDRINUSE") return undefined;
    throw error;
  }
  const address = server.address();
  server.close();
  await once(server, "close");
  return address === null || typeof address === "string" ? undefined : address.port;
}

function portTaken(cluster: Cluster): ConfigError {
  return new ConfigError("embedded_postgres_port_taken", [
    `The port ${readState(cluster)?.port} of the embedded PostgreSQL is taken by another program. End that, ` +
      `or end all that uses ${cluster.dataDir} and take "port" out of ${cluster.state} for another one.`,
  ]);
}

async function startFailure(cluster: Cluster, said: string): Promise<UpstreamError> {
  const file = await open(cluster.log);
  try {
    const start = Math.max(0, (await file.stat()).size - LOG_TAIL_BYTES);
    const { bytesRead, buffer } = await file.read(Buffer.alloc(LOG_TAIL_BYTES), 0, LOG_TAIL_BYTES, start);
    const tail = buffer.toString("utf8", 0, bytesRead);
    return upstream(
      "embedded_postgres_start",
      `The embedded PostgreSQL doesn't start: ${said}\n${cluster.log} ends with:\n${tail}`,
    );
  } finally {
    await file.close();
  }
}

function upstream(code: string, message: string): UpstreamError {
  return new UpstreamError(code, message, { service: "postgres", retryable: true });
}
