import { once } from "node:events";
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { type IncomingMessage, request as httpRequest, type ServerResponse } from "node:http";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { request } from "undici";
import { localiseConfig } from "../../../../adapters/runtime/local/localise.ts";
import { freePort } from "../../../../adapters/runtime/local/ports.ts";
import type { ProcessIdentity } from "../../../../adapters/runtime/local/process-identity.ts";
import { startProcess, stopProcess } from "../../../../adapters/runtime/local/processes.ts";
import { findProgram } from "../../../../adapters/runtime/local/program.ts";
import type { RuntimeConfigFile } from "../../../../adapters/runtime/runtime-driver.ts";
import type { Container, ContainerHealth, ContainerHost, ContainerSpec, Mount } from "./container-host.ts";
import { localise } from "./job-run.ts";

const PROBE_TIMEOUT_MS = 2_000;
const FIRST_RESTART_MS = 50;
const MAX_RESTART_MS = 5_000;

type FolderMount = Extract<Mount, { folder: string }>;
type Place = { spec: ContainerSpec; root: string; mounts: FolderMount[]; port: number; gatewayPort: number };

/**
 * Containers that are processes of the bundled sandbox runtime: what is mounted lies in folders of this machine, whose paths stand in
 * environment and configuration in place of the mounts'. One that ends by itself is started again.
 */
export function createSandboxContainers(folder: string): ContainerHost & { kill(app: string): void } {
  const taken = new Set<number>();
  const living = new Map<Container, { app: string; stopped: Promise<void>; kill(): void }>();
  let count = 0;

  async function prepare(spec: ContainerSpec): Promise<Place> {
    count += 1;
    const root = path.join(folder, `${spec.revision}.${count}`);
    const port = await freePort(taken);
    const gatewayPort = await freePort(taken.add(port));
    taken.add(gatewayPort);
    const mounts = await Promise.all(
      spec.mounts.map(async (mount, index) =>
        "folder" in mount ? mount : { path: mount.path, folder: path.join(root, `mount-${index}`) },
      ),
    );
    const place = { spec, root, mounts, port, gatewayPort };
    await mkdir(path.join(root, "tmp"), { recursive: true, mode: 0o700 });
    for (const [index, mount] of spec.mounts.entries())
      if ("files" in mount) await writeFiles(place, mount, mounts[index]?.folder ?? root);
      else if ("empty" in mount) await mkdir(mounts[index]?.folder ?? root, { mode: 0o700 });
    return place;
  }

  function start(spec: ContainerSpec): Container {
    const stopping = new AbortController();
    const { signal } = stopping;
    let identity: ProcessIdentity | undefined;
    let isRunning = true;
    let wasHealthy = false;
    const place = prepare(spec);

    async function live(): Promise<void> {
      const prepared = await place;
      for (let wait = FIRST_RESTART_MS; !signal.aborted; wait = Math.min(wait * 2, MAX_RESTART_MS)) {
        const child = await launch(prepared, (started) => {
          identity = started;
        });
        // It is told to end below, or ends by itself and is started again.
        const ended = child.exitCode === null && child.signalCode === null ? once(child, "exit") : Promise.resolve();
        await Promise.race([ended, aborted(signal)]);
        if (identity !== undefined) await stopProcess(identity);
        identity = undefined;
        if (!signal.aborted) await delay(wait, undefined, { signal }).catch(() => {});
      }
    }
    const stopped = live().finally(() => {
      isRunning = false;
      living.delete(container);
    });
    // Said by whoever closes.
    stopped.catch(() => {});

    const container: Container = {
      async health(): Promise<ContainerHealth> {
        const isHealthy = isRunning && !signal.aborted && (await probe((await place).port));
        wasHealthy ||= isHealthy;
        return isHealthy ? "healthy" : wasHealthy ? "unhealthy" : "starting";
      },
      serve: async (incoming, response) => proxy((await place).port, incoming, response),
      stop: () => stopping.abort(),
      isRunning: () => isRunning,
    };
    living.set(container, {
      app: spec.app,
      stopped,
      kill() {
        if (identity !== undefined) process.kill(-identity.pid, "SIGKILL");
      },
    });
    return container;
  }

  return {
    start,
    kill(app) {
      for (const one of living.values()) if (one.app === app) one.kill();
    },
    async close() {
      const all = [...living];
      for (const [container] of all) container.stop();
      await Promise.all(all.map(([, { stopped }]) => stopped));
    },
  };
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/** Read-only, as a Secret volume's; the configuration among them is that of this machine. */
async function writeFiles(
  place: Place,
  { path: mountPath, files }: Extract<Mount, { files: unknown }>,
  folder: string,
): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  for (const [name, content] of Object.entries(files)) {
    const isConfig = place.spec.env["OPENCLAW_CONFIG_PATH"] === path.posix.join(mountPath, name);
    await writeFile(path.join(folder, name), isConfig ? configOf(place, content) : content, { mode: 0o400 });
  }
  await chmod(folder, 0o500);
}

function configOf({ spec, mounts, root, port, gatewayPort }: Place, content: string): string {
  const config = JSON.parse(localise(content, mounts)) as RuntimeConfigFile;
  const state = localise(spec.env["OPENCLAW_STATE_DIR"] ?? root, mounts);
  const logFile = path.join(root, "openclaw.log");
  return JSON.stringify(
    localiseConfig(config, { gatewayPort, webhookPort: port, workspace: `${state}/workspace`, logFile }),
  );
}

async function launch({ spec, root, mounts }: Place, record: (identity: ProcessIdentity) => void) {
  const program = await findProgram(undefined);
  const env = Object.fromEntries(Object.entries(spec.env).map(([name, value]) => [name, localise(value, mounts)]));
  const own = { PATH: `${path.dirname(program.node)}:/usr/bin:/bin`, TMPDIR: path.join(root, "tmp") };
  return startProcess(
    {
      command: program.command,
      args: program.args,
      cwd: root,
      env: { ...env, ...own },
      owner: undefined,
      logFile: path.join(root, "log"),
    },
    async (identity) => record(identity),
  );
}

async function probe(port: number): Promise<boolean> {
  try {
    const { statusCode, body } = await request(`http://127.0.0.1:${port}/healthz`, {
      headersTimeout: PROBE_TIMEOUT_MS,
      bodyTimeout: PROBE_TIMEOUT_MS,
      reset: true,
    });
    return statusCode === 200 && (await body.text()) === "ok";
  } catch {
    // Nobody listens yet, or any more: that is the answer.
    return false;
  }
}

function proxy(port: number, incoming: IncomingMessage, response: ServerResponse): Promise<void> {
  return new Promise((resolve, reject) => {
    const { method, url, headers } = incoming;
    const outgoing = httpRequest({ host: "127.0.0.1", port, method, path: url, headers, agent: false }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, { ...answer.headers, connection: "close" });
      answer.pipe(response).once("finish", resolve).once("error", reject);
    });
    outgoing.once("error", reject);
    incoming.pipe(outgoing);
  });
}
