import { writeFile } from "node:fs/promises";
import path from "node:path";
import { createFileVault } from "../src/core/adapters/vault/file-vault.ts";
import { tenantSecretName } from "../src/core/adapters/vault/vault.ts";
import type { TenantId } from "../src/core/platform/ids.ts";
import { startDaemon } from "../scripts/load/daemon-process.ts";
import { median, round } from "../scripts/load/figures.ts";
import { allTenantsActive, createTenants, daemonEnv, type Stage, withStage } from "../scripts/load/stage.ts";
import { cpuMicros, startServer } from "./server-process.ts";
import { runWrk, type WrkResult } from "./wrk.ts";

const CHATS = 100;
const IN_FLIGHT = 64;

type Contestant = { name: string; url: string; pid: number; callsFile: string };
type Run = WrkResult & { cpuMicrosPerCall: number };

export type GatewayOptions = { rounds: number; seconds: number };

/** sendMessage through the Bot API gateway, with every check and the pacer's, against a proxy that looks at nothing. */
export async function benchGateway({ rounds, seconds }: GatewayOptions) {
  return withStage(async (stage) => {
    const contestants = await startContestants(stage);
    try {
      const runs = new Map<string, Run[]>(contestants.list.map(({ name }) => [name, []]));
      // What counts is how they run for days.
      for (const contestant of contestants.list) await measure(contestant, seconds);
      for (let turn = 0; turn < rounds; turn += 1) {
        for (const contestant of contestants.list) runs.get(contestant.name)?.push(await measure(contestant, seconds));
      }
      const rates = (name: string) => (runs.get(name) ?? []).map((run) => run.perSecond);
      const proxied = rates("undici proxy");
      return {
        bench: "gateway",
        rounds,
        seconds,
        load: "wrk",
        inFlight: IN_FLIGHT,
        results: [...runs].map(([name, list]) => ({
          run: name,
          perSecond: Math.round(median(rates(name))),
          p50Ms: round(median(list.map((run) => run.p50Ms))),
          p99Ms: round(median(list.map((run) => run.p99Ms))),
          cpuMicrosPerCall: round(median(list.map((run) => run.cpuMicrosPerCall))),
        })),
        ofUndiciProxy: round(median(rates("openclaw").map((ours, turn) => ours / (proxied[turn] ?? Number.NaN)))),
      };
    } finally {
      await contestants.stop();
    }
  });
}

async function measure({ name, url, pid, callsFile }: Contestant, seconds: number): Promise<Run> {
  const before = cpuMicros(pid);
  const result = await runWrk({
    url,
    connections: IN_FLIGHT,
    seconds,
    script: path.join(import.meta.dirname, "gateway.lua"),
    args: [callsFile],
  });
  if (result.failed > 0) throw new Error(`${name} refused ${result.failed} calls`);
  return { ...result, cpuMicrosPerCall: (cpuMicros(pid) - before) / result.requests };
}

async function startContestants(stage: Stage) {
  const chats = Array.from({ length: CHATS }, (_, index) => 1_000_001 + index);
  const telegram = await startServer("bot-api");
  const proxy = await startServer("undici-proxy", [telegram.url]);
  const runtimesFile = await createTenants(stage, chats, () => "http://127.0.0.1:9");
  const daemon = await startDaemon({
    env: daemonEnv(stage, { TELEGRAM_API_ROOT: telegram.url }),
    runtimesFile,
    logFile: path.join(stage.dataDir, "daemon.log"),
  });
  await allTenantsActive(stage);
  const plain = path.join(stage.dataDir, "calls-plain");
  await writeFile(plain, chats.map((chat) => `/bot4242:token/sendMessage ${chat}`).join("\n"));
  return {
    list: [
      { name: "undici proxy", url: proxy.url, pid: proxy.pid, callsFile: plain },
      { name: "openclaw", url: daemon.internalUrl, pid: daemon.pid, callsFile: await writeTenantCalls(stage) },
    ] satisfies Contestant[],
    async stop() {
      await Promise.all([proxy.stop(), daemon.stop(), telegram.stop()]);
    },
  };
}

/** Each tenant's sendMessage to its own chat, with its own token. */
async function writeTenantCalls({ dataDir, pool }: Stage): Promise<string> {
  const vault = createFileVault({ folder: path.join(dataDir, "vault"), key: undefined });
  const { rows } = await pool.query<{ id: TenantId; chat: number }>("SELECT id, telegram_chat_id AS chat FROM tenants");
  const lines = rows.map(async ({ id, chat }) => {
    const token = await vault.get(tenantSecretName(id, "telegram-token", 1));
    return `/runtime/${id}/telegram/bot${token}/sendMessage ${chat}`;
  });
  const file = path.join(dataDir, "calls-tenants");
  await writeFile(file, (await Promise.all(lines)).join("\n"));
  return file;
}
