import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { ConfigError } from "../src/core/platform/errors.ts";

export type WrkResult = { perSecond: number; p50Ms: number; p99Ms: number; requests: number; failed: number };

const UNIT_MS: Record<string, number> = { us: 0.001, ms: 1, s: 1_000 };

/** One run of wrk on one thread: `connections` requests in flight, each answered before the next. */
export async function runWrk(options: {
  url: string;
  connections: number;
  seconds: number;
  script: string;
  args: readonly (string | number)[];
}): Promise<WrkResult> {
  const { url, connections, seconds, script, args } = options;
  const { stdout } = await promisify(execFile)("wrk", [
    "--threads=1",
    `--connections=${connections}`,
    `--duration=${seconds}s`,
    "--timeout=10s",
    "--latency",
    `--script=${script}`,
    url,
    "--",
    ...args.map(String),
  ]).catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT")
      throw new ConfigError("wrk_missing", [
        "wrk makes the load, and is not installed; on Debian: apt-get install wrk",
      ]);
    throw error;
  });
  return {
    perSecond: Number(find(stdout, /Requests\/sec:\s+([\d.]+)/)[0]),
    p50Ms: toMs(find(stdout, /50%\s+([\d.]+)(us|ms|s)/)),
    p99Ms: toMs(find(stdout, /99%\s+([\d.]+)(us|ms|s)/)),
    requests: Number(find(stdout, /(\d+) requests in/)[0]),
    // Printed only when there are any.
    failed: Number(/Non-2xx or 3xx responses: (\d+)/.exec(stdout)?.[1] ?? 0),
  };
}

function find(text: string, pattern: RegExp): string[] {
  const found = pattern.exec(text);
  if (found === null) throw new Error(`wrk printed something unexpected: ${text}`);
  return found.slice(1);
}

function toMs([value = "", unit = ""]: string[]): number {
  return Number(value) * (UNIT_MS[unit] ?? Number.NaN);
}
