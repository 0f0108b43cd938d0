import { createHash, randomBytes } from "node:crypto";
import { constants, existsSync } from "node:fs";
import { chmod, copyFile, cp, lstat, mkdir, readFile, realpath, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { ConfigError } from "../../../platform/errors.ts";
import { hasCode } from "./files.ts";
import { isolation, isReachable } from "./isolation.ts";

/** What to start: a command and its first arguments. `sandbox` stands in for a real OpenClaw. */
export type Program = {
  kind: "sandbox" | "real";
  /** For operators. */
  name: string;
  command: string;
  args: readonly string[];
  node: string;
};

/**
 * The program of all runtimes, at a place where their users can reach it.
 * @throws ConfigError when `binary` isn't there or can't be reached.
 */
export async function findProgram(binary: string | undefined): Promise<Program> {
  if (binary === undefined) {
    const { node, script } = await reachableCopy({
      node: process.execPath,
      script: sandboxScript(),
      cacheFolder: tmpdir(),
    });
    return { kind: "sandbox", name: "bundled sandbox runtime", command: node, args: [script], node };
  }
  if (!existsSync(binary))
    throw new ConfigError("runtime_bin_missing", [`OPENCLAW_RUNTIME_BIN: ${binary} doesn't exist.`]);
  const file = await realpath(binary);
  const isScript = /\.[cm]?js$/.test(file);
  if (isolation() === "uid-per-tenant" && !(await isReachable(file, isScript ? "read" : "execute"))) {
    throw new ConfigError("runtime_bin_unreachable", [
      `OPENCLAW_RUNTIME_BIN: ${file} can't be reached by the users that runtimes run under; install it in a folder open to all, e.g. below /opt.`,
    ]);
  }
  const { node } = await reachableCopy({ node: process.execPath, script: undefined, cacheFolder: tmpdir() });
  const real = { kind: "real", name: `OpenClaw at ${file}`, node } as const;
  return isScript ? { ...real, command: node, args: [file] } : { ...real, command: file, args: [] };
}

/** In the bundle beside us as JavaScript, in the source tree as TypeScript. */
function sandboxScript(): string {
  const bundled = path.join(import.meta.dirname, "sandbox-runtime.js");
  return existsSync(bundled) ? bundled : path.join(import.meta.dirname, "sandbox-runtime.ts");
}

type Files<Script> = { node: string; script: Script; cacheFolder: string };

/** The files themselves where every user can reach them, or without root; else copies in a folder of root's that all can read. */
export async function reachableCopy<Script extends string | undefined>(
  files: Files<Script>,
): Promise<{ node: string; script: Script }> {
  const { node, script, cacheFolder } = files;
  const scriptIsOpen = script === undefined || (await isReachable(script, "read"));
  if (isolation() === "shared" || (scriptIsOpen && (await isReachable(node, "execute")))) return { node, script };

  const cache = path.join(cacheFolder, `openclaw-runtime-${process.version}-${await fingerprint(node, script)}`);
  if (!existsSync(cache)) await fillCache(cache, node, script);
  const { uid, mode } = await lstat(cache);
  if (uid !== 0 || (mode & 0o022) !== 0) {
    throw new ConfigError("runtime_cache_foreign", [
      `${cache} belongs to or can be written by somebody else; remove it and try again.`,
    ]);
  }
  const copied = (file: string): string => path.join(cache, path.basename(file));
  return { node: copied(node), script: (script === undefined ? script : copied(script)) as Script };
}

async function fingerprint(node: string, script: string | undefined): Promise<string> {
  const { size, mtimeMs } = await stat(node);
  const hash = createHash("sha256").update(JSON.stringify([node, size, mtimeMs]));
  if (script !== undefined) hash.update(await readFile(script));
  return hash.digest("hex").slice(0, 16);
}

/** Filled under another name first: whoever finds the folder finds it whole. */
async function fillCache(cache: string, node: string, script: string | undefined): Promise<void> {
  const draft = `${cache}.${randomBytes(6).toString("hex")}`;
  await mkdir(draft, { mode: 0o755 });
  try {
    await copyFile(node, path.join(draft, path.basename(node)), constants.COPYFILE_FICLONE);
    await writeFile(path.join(draft, "package.json"), '{"type":"module"}\n');
    if (script !== undefined) await copyScript(script, draft);
    // Whatever the umask took away.
    for (const open of [draft, path.join(draft, path.basename(node))]) await chmod(open, 0o755);
    await chmod(path.join(draft, "package.json"), 0o644);
    await rename(draft, cache);
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    // Another process was faster; what it made is checked like our own.
    if (!hasCode(error, "ENOTEMPTY", "EEXIST")) throw error;
  }
}

/** The bundle is one file; in the source tree its modules lie beside it. */
async function copyScript(script: string, folder: string): Promise<void> {
  await copyFile(script, path.join(folder, path.basename(script)));
  await chmod(path.join(folder, path.basename(script)), 0o644);
  const modules = path.join(path.dirname(script), "sandbox");
  if (existsSync(modules)) await cp(modules, path.join(folder, "sandbox"), { recursive: true });
}
