import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { setTimeout as delay } from "node:timers/promises";

const START_MS = 10_000;

export type RedisServer = {
  url: string;
  /** Kills it with SIGKILL and starts it again, empty, at its address. */
  killAndRestart(): Promise<void>;
  /** Leaves everything that is asked unanswered for so long. */
  hang(ms: number): Promise<void>;
  stop(): Promise<void>;
};

/** A throw-away Redis that keeps nothing on disk; undefined when there is no redis-server on PATH. */
export async function startRedis(): Promise<RedisServer | undefined> {
  const port = await freePort();
  let child = await startOn(port);
  if (child === undefined) return undefined;
  const kill = async () => {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  };
  return {
    url: `redis://127.0.0.1:${port}`,
    async killAndRestart() {
      await kill();
      child = await startOn(port);
    },
    async hang(ms) {
      child?.kill("SIGSTOP");
      await delay(ms);
      child?.kill("SIGCONT");
    },
    stop: kill,
  };
}

async function startOn(port: number): Promise<ChildProcess | undefined> {
  const args = ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", tmpdir()];
  const child = spawn("redis-server", args, { stdio: "ignore" });
  const missing = await Promise.race([
    once(child, "spawn").then(() => false),
    once(child, "error").then(() => true),
  ]).catch(() => true);
  if (missing) return undefined;
  for (const deadline = performance.now() + START_MS; !(await answers(port)); await delay(20)) {
    if (child.exitCode !== null || performance.now() > deadline)
      throw new Error(`redis-server doesn't start on port ${port}`);
  }
  return child;
}

async function answers(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  try {
    await once(socket, "connect");
    return true;
  } catch {
    // Not yet.
    return false;
  } finally {
    socket.destroy();
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("a TCP listener without a port");
  return address.port;
}
