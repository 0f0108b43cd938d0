import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { Pool } from "undici";
import { createFileVault } from "../src/core/adapters/vault/file-vault.ts";
import { tenantSecretName } from "../src/core/adapters/vault/vault.ts";
import type { TenantId } from "../src/core/platform/ids.ts";
import { startDaemon } from "../scripts/load/daemon-process.ts";
import { median, round } from "../scripts/load/figures.ts";
import { allTenantsActive, count, createTenants, daemonEnv, type Stage, withStage } from "../scripts/load/stage.ts";
import { cpuMicros, startServer } from "./server-process.ts";
import { runWrk, type WrkResult } from "./wrk.ts";

const TENANTS = 100;
const STREAMS = 200;
const FIRST_BYTES = 200;
const MODEL = "claude-haiku-4-5";
const ROUTE = "/v1/messages";
/** What OpenClaw sends with its twelve tools comes to so much. */
const BODY_BYTES = 40_000;

type Contestant = { name: string; url: string; pid: number; callsFile: string; call: { path: string; key: string } };
type Run = WrkResult & { cpuMicrosPerCall: number };

/**
 * Model calls through the gateway, metered and reserved for, against a proxy that looks at nothing: whole streams a second
 * with many at once, and the time to the first byte alone.
 */
export async function benchModels({ rounds, seconds }: { rounds: number; seconds: number }) {
  return withStage(async (stage) => {
    const body = JSON.stringify({
      model: MODEL,
      max_tokens: 1_024,
      stream: true,
      messages: [{ role: "user", content: "words ".repeat(BODY_BYTES / 6) }],
    });
    const bodyFile = path.join(stage.dataDir, "body");
    await writeFile(bodyFile, body);
    const { direct, list, stop } = await startContestants(stage);
    try {
      const runs = new Map<string, Run[]>(list.map(({ name }) => [name, []]));
      for (const contestant of list) await measure(contestant, bodyFile, seconds);
      for (let turn = 0; turn < rounds; turn += 1) {
        for (const contestant of list) runs.get(contestant.name)?.push(await measure(contestant, bodyFile, seconds));
      }
      const rates = (name: string) => (runs.get(name) ?? []).map((run) => run.perSecond);
      const proxied = rates("undici proxy");
      const firstBytes = await measureFirstBytes([direct, ...list], body);
      const [alone = Number.NaN, proxy = Number.NaN, ours = Number.NaN] = firstBytes;
      return {
        bench: "models",
        rounds,
        seconds,
        load: "wrk",
        streams: STREAMS,
        results: list.map(({ name }) => ({
          run: name,
          streamsPerSecond: Math.round(median(rates(name))),
          p50Ms: round(median((runs.get(name) ?? []).map((run) => run.p50Ms))),
          cpuMicrosPerStream: round(median((runs.get(name) ?? []).map((run) => run.cpuMicrosPerCall))),
        })),
        ofUndiciProxy: round(median(rates("openclaw").map((rate, turn) => rate / (proxied[turn] ?? Number.NaN)))),
        firstByte: {
          directP50Ms: round(alone),
          proxyAddsP50Ms: round(proxy - alone),
          openclawAddsP50Ms: round(ours - alone),
        },
        recorded: await count(stage.pool, "SELECT FROM usage_records"),
        stillReserved: await count(stage.pool, "SELECT FROM usage_reservations"),
      };
    } finally {
      await stop();
    }
  });
}

async function measure({ name, url, pid, callsFile }: Contestant, bodyFile: string, seconds: number): Promise<Run> {
  const before = cpuMicros(pid);
  const result = await runWrk({
    url,
    connections: STREAMS,
    seconds,
    script: path.join(import.meta.dirname, "models.lua"),
    args: [callsFile, bodyFile],
  });
  if (result.failed > 0) throw new Error(`${name} refused ${result.failed} calls`);
  return { ...result, cpuMicrosPerCall: (cpuMicros(pid) - before) / result.requests };
}

/** One call at a time, taking turns. @returns the median of each, in milliseconds. */
async function measureFirstBytes(
  contestants: readonly Pick<Contestant, "url" | "call">[],
  body: string,
): Promise<number[]> {
  const pools = contestants.map(({ url }) => new Pool(url));
  const times: number[][] = contestants.map(() => []);
  for (let turn = 0; turn < FIRST_BYTES; turn += 1) {
    for (const [index, { call }] of contestants.entries()) {
      const headers = { "content-type": "application/json", "x-api-key": call.key };
      const since = performance.now();
      const answer = await pools[index]?.request({ method: "POST", path: call.path, headers, body });
      if (answer === undefined) continue;
      await once(answer.body, "readable");
      times[index]?.push(performance.now() - since);
      await answer.body.dump();
    }
  }
  await Promise.all(pools.map((pool) => pool.destroy()));
  return times.map(median);
}

async function startContestants(stage: Stage) {
  const chats = Array.from({ length: TENANTS }, (_, index) => 1_000_001 + index);
  const model = await startServer("model-api");
  const proxy = await startServer("undici-proxy", [model.url]);
  const runtimesFile = await createTenants(stage, chats, () => "http://127.0.0.1:9");
  const daemon = await startDaemon({
    env: daemonEnv(stage, {
      NODE_OPTIONS: "--cpu-prof --cpu-prof-dir=/tmp/prof",
      ANTHROPIC_API_KEY: "operator-key",
      ANTHROPIC_BASE_URL: model.url,
    }),
    runtimesFile,
    logFile: path.join(stage.dataDir, "daemon.log"),
  });
  await allTenantsActive(stage);
  // All of the path, and no end to it.
  await stage.pool.query("UPDATE spending_limits SET tokens_per_month = 1e15, micro_usd_per_month = 9e15");
  const calls = await listCalls(stage);
  const [first = { path: "", key: "" }] = calls;
  const plain = { path: ROUTE, key: "any" };
  const contestant = async (
    name: string,
    { url, pid }: { url: string; pid: number },
    own: readonly (typeof plain)[],
  ) => {
    const callsFile = path.join(stage.dataDir, `calls-${own.length}`);
    await writeFile(callsFile, own.map((call) => `${call.path} ${call.key}`).join("\n"));
    return { name, url, pid, callsFile, call: own[0] ?? first };
  };
  return {
    direct: { url: model.url, call: plain },
    list: [
      await contestant("undici proxy", proxy, [plain]),
      await contestant("openclaw", { url: daemon.internalUrl, pid: daemon.pid }, calls),
    ] satisfies Contestant[],
    async stop() {
      await Promise.all([proxy.stop(), daemon.stop(), model.stop()]);
    },
  };
}

/** A call of each tenant, with its own key. */
async function listCalls({ dataDir, pool }: Stage) {
  const vault = createFileVault({ folder: path.join(dataDir, "vault"), key: undefined });
  const { rows } = await pool.query<{ id: TenantId }>("SELECT id FROM tenants");
  return Promise.all(
    rows.map(async ({ id }) => ({
      path: `/runtime/${id}/model${ROUTE}`,
      key: (await vault.get(tenantSecretName(id, "model-key", 1))) ?? "",
    })),
  );
}
