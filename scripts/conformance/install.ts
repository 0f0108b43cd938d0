import { execFile } from "node:child_process";
import { chmod, lstat, mkdir, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { ConfigError } from "../../src/core/platform/errors.ts";

const run = promisify(execFile);
/** What npm was still writing when it was interrupted. */
const PERSISTENT = { recursive: true, force: true, maxRetries: 10, retryDelay: 200 };

/**
 * The program of `openclaw@<version>`, installed below `parent` once per machine and user: a copy that was broken off never looks
 * like a whole one. Every user can read it.
 * @throws ConfigError when its folder is somebody else's.
 */
export async function installOpenClaw(parent: string, version: string, signal: AbortSignal): Promise<string> {
  const folder = path.join(parent, `openclaw-conformance-${version}-${process.getuid?.() ?? "user"}`);
  if (!(await isOurs(folder))) await fill(folder, version, signal);
  return path.join(folder, "node_modules", "openclaw", "openclaw.mjs");
}

/** False when it isn't there. Others can guess its name, and we run what lies in it. */
async function isOurs(folder: string): Promise<boolean> {
  const found = await lstat(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (found === undefined) return false;
  const isSafe = found.isDirectory() && found.uid === process.getuid?.() && (found.mode & 0o022) === 0;
  if (isSafe || process.platform === "win32") return true;
  throw new ConfigError("install_foreign", [`${folder} belongs to or can be written by somebody else; remove it.`]);
}

async function fill(folder: string, version: string, signal: AbortSignal): Promise<void> {
  const draft = `${folder}.${process.pid}.tmp`;
  await rm(draft, PERSISTENT);
  await mkdir(draft);
  try {
    await writeFile(path.join(draft, "package.json"), '{"private":true}\n');
    // It works without the install scripts of its 330 packages.
    const flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    await run("npm", ["install", `openclaw@${version}`, ...flags], { cwd: draft, signal });
    // Its first start completes what its own script would have done, which takes somebody who may write there.
    const program = path.join(draft, "node_modules", "openclaw", "openclaw.mjs");
    const env = { PATH: process.env["PATH"], HOME: draft, OPENCLAW_STATE_DIR: path.join(draft, "state") };
    await run(process.execPath, [program, "--version"], { cwd: draft, env, signal });
    await chmod(draft, 0o755);
    // As root, runtimes run as other users, whatever our umask.
    await run("chmod", ["-R", "a+rX,go-w", draft]);
    await rename(draft, folder);
  } finally {
    await rm(draft, PERSISTENT);
  }
}
