import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { chmod, mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import type { TestContext } from "node:test";
import { packageRoot } from "../src/core/platform/package-root.ts";
import { until } from "../src/core/router/test-setup.ts";
import { undoAfter } from "./cleanup.ts";

const TIMEOUT_MS = 60_000;

export type Outcome = { code: number | null; stdout: string; stderr: string };

/** `openclaw` as typed off a terminal, in an empty folder and with nothing in its environment but what is given. */
export async function openFolder(t: TestContext, env: Record<string, string>, root = packageRoot()) {
  const folder = await temporaryFolder(t);
  function start(args: readonly string[], output: "pipe" | number) {
    return spawn(process.execPath, [path.join(root, "bin", "openclaw.js"), ...args], {
      cwd: folder,
      env: { PATH: path.dirname(process.execPath), HOME: folder, OPENCLAW_ACTOR: "ops", ...env },
      stdio: ["ignore", output, "pipe"],
      timeout: TIMEOUT_MS,
    });
  }
  async function openclaw(...args: string[]): Promise<Outcome> {
    const child = start(args, "pipe");
    const [code, stdout, stderr] = await Promise.all([endOf(child), read(child.stdout), read(child.stderr)]);
    return { code, stdout, stderr };
  }
  /** Ended by Ctrl-C once `when` holds. */
  openclaw.interrupted = async (when: () => Promise<boolean>, ...args: string[]): Promise<Outcome> => {
    const child = start(args, "pipe");
    const outcome = Promise.all([endOf(child), read(child.stdout), read(child.stderr)]);
    await until(when, "the moment to interrupt");
    child.kill("SIGINT");
    const [code, stdout, stderr] = await outcome;
    return { code, stdout, stderr };
  };
  /** With its standard output going to a file, or to a reader that has gone before anything is written. */
  openclaw.to = async (output: string, ...args: string[]): Promise<Outcome> => {
    const file = output === "closed" ? undefined : await open(output, "w");
    const child = start(args, file?.fd ?? "pipe");
    child.stdout?.destroy();
    const [code, stderr] = await Promise.all([endOf(child), read(child.stderr)]);
    await file?.close();
    return { code, stdout: "", stderr };
  };
  return openclaw;
}

function endOf(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve, reject) => child.once("error", reject).once("close", resolve));
}

async function read(stream: Readable | null): Promise<string> {
  return stream === null ? "" : text(stream);
}

/** A folder of its own, that others can reach, gone after the test. */
export async function temporaryFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), "openclaw-cli-"));
  await chmod(folder, 0o755);
  // What was killed a moment ago may be about to write its last.
  undoAfter(t, () => rm(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 }));
  return folder;
}

/** Fails with what was printed when the command ended otherwise than expected. */
export function expectCode(outcome: Outcome, code: number): Outcome {
  assert.equal(outcome.code, code, `exit ${outcome.code}, expected ${code}\n${outcome.stdout}${outcome.stderr}`);
  return outcome;
}

/** The one document on standard output. */
export function documentOf({ stdout }: Outcome): Record<string, unknown> {
  const value: unknown = JSON.parse(stdout);
  assert.ok(typeof value === "object" && value !== null && !Array.isArray(value), stdout);
  return { ...value };
}
