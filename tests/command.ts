import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { text } from "node:stream/consumers";
import type { TestContext } from "node:test";
import { packageRoot } from "../src/core/platform/package-root.ts";

const TIMEOUT_MS = 60_000;

export type Outcome = { code: number | null; stdout: string; stderr: string };

/** `openclaw` as typed off a terminal, in an empty folder and with nothing in its environment but what is given. */
export async function openFolder(t: TestContext, env: Record<string, string>, root = packageRoot()) {
  const folder = await mkdtemp(path.join(tmpdir(), "openclaw-cli-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return async function openclaw(...args: string[]): Promise<Outcome> {
    const child = spawn(process.execPath, [path.join(root, "bin", "openclaw.js"), ...args], {
      cwd: folder,
      env: { PATH: path.dirname(process.execPath), HOME: folder, OPENCLAW_ACTOR: "ops", ...env },
      stdio: ["ignore", "pipe", "pipe"],
      timeout: TIMEOUT_MS,
    });
    const ended = new Promise<number | null>((resolve, reject) => child.once("error", reject).once("close", resolve));
    const [code, stdout, stderr] = await Promise.all([ended, text(child.stdout), text(child.stderr)]);
    return { code, stdout, stderr };
  };
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
