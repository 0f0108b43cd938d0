import { setTimeout as delay } from "node:timers/promises";
import { request } from "undici";
import { startDaemon, type DaemonProcess } from "../load/daemon-process.ts";
import type { Runtimes } from "../load/runtimes.ts";
import type { Stage } from "../load/stage.ts";
import type { RedisServer } from "../redis-server.ts";

export const VICTIM_NAMES = ["daemon", "runtime", "postgres", "redis", "redis-hang"] as const;
export type VictimName = (typeof VICTIM_NAMES)[number];

export function isVictimName(name: string): name is VictimName {
  return VICTIM_NAMES.some((known) => known === name);
}

/** Daemons that are started again when they are killed, as a supervisor would. */
export async function superviseDaemons(count: number, options: Parameters<typeof startDaemon>[0]) {
  const daemons: DaemonProcess[] = [];
  /** The last lines of daemons that ended by themselves. */
  const crashes: string[] = [];

  async function start(): Promise<void> {
    const daemon = await startDaemon(options);
    daemons.push(daemon);
    void daemon.ended.then((said) => {
      if (!forget(daemon)) return;
      crashes.push(said);
      return start();
    });
  }

  /** False when it was known to end. */
  function forget(daemon: DaemonProcess | undefined): boolean {
    const index = daemons.findIndex((known) => known === daemon);
    if (index >= 0) daemons.splice(index, 1);
    return index >= 0;
  }

  for (let started = 0; started < count; started += 1) await start();
  return {
    crashes,
    urls: () => daemons.map((daemon) => daemon.url),
    async killAndRestart() {
      const victim = daemons[0];
      forget(victim);
      await victim?.kill();
      await start();
    },
    async readMetrics(): Promise<string> {
      const pages = daemons.map(async (daemon) => (await request(`${daemon.internalUrl}/metrics`)).body.text());
      return (await Promise.all(pages)).join("\n");
    },
    async stop() {
      for (const daemon of daemons.splice(0)) await daemon.stop();
    },
  };
}

export type Daemons = Awaited<ReturnType<typeof superviseDaemons>>;

export type Targets = { stage: Stage; daemons: Daemons; runtimes: Runtimes; redis: RedisServer };

const HANG_MS = 1_500;

/** Kills with SIGKILL, or has it hang; settles when it is back. */
export async function killAndRestart(name: VictimName, { stage, daemons, runtimes, redis }: Targets): Promise<void> {
  switch (name) {
    case "daemon":
      return daemons.killAndRestart();
    case "runtime":
      return runtimes.killAndRestart();
    case "redis":
      return redis.killAndRestart();
    case "redis-hang":
      return redis.hang(HANG_MS);
    case "postgres":
      await stage.killPostgres();
      // As long as it takes somebody to notice.
      await delay(200);
      return stage.startPostgres();
  }
}
