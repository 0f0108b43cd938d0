import { createHash } from "node:crypto";
import { existsSync, statSync } from "node:fs";
import { mkdir, mkdtemp, rmdir } from "node:fs/promises";
import path from "node:path";
import { firstClosedFolder } from "./embedded-postgres-binaries.ts";
import { ConfigError, errorMessage } from "./errors.ts";

/** Where root's data goes when the folder it was meant for is closed to the users that work with it. */
const OPEN_FOLDER = "/var/lib/openclaw";

/**
 * The folder in which `wanted`'s data really lies. As root, the database and the runtimes run as users of their own, which
 * can't pass through a closed folder such as /root: then it is a folder of its own below /var/lib/openclaw, always the same
 * one. Data that lies at `wanted` already stays there, and a place where no folder can be is left to `makeDataDir` to refuse.
 */
export async function reachableDataDir(wanted: string): Promise<string> {
  if (process.getuid?.() !== 0 || existsSync(path.join(wanted, "postgres"))) return wanted;
  const above = nearestExisting(path.dirname(wanted));
  if (!statSync(above).isDirectory() || (await firstClosedFolder(above)) === undefined) return wanted;
  return path.join(OPEN_FOLDER, createHash("sha256").update(wanted).digest("hex").slice(0, 12));
}

function nearestExisting(folder: string): string {
  return existsSync(folder) ? folder : nearestExisting(path.dirname(folder));
}

/**
 * Makes a data folder that isn't there yet, and makes sure that it can be written.
 * @throws ConfigError saying why it can't be used.
 */
export async function makeDataDir(folder: string): Promise<void> {
  try {
    await makeFolder(folder);
    await rmdir(await mkdtemp(path.join(folder, "probe-")));
  } catch (error) {
    throw new ConfigError(
      "data_dir_unusable",
      [
        `OPENCLAW_DATA_DIR: ${folder} can't be used (${errorMessage(error)}). ` +
          "Set it to a folder that this user can write, e.g. /var/lib/openclaw",
      ],
      { cause: error },
    );
  }
}

/** Level by level: told to make them all, Node tries for ever where nothing can be made, such as in /proc. */
async function makeFolder(folder: string): Promise<void> {
  const parent = path.dirname(folder);
  if (!existsSync(parent)) await makeFolder(parent);
  try {
    await mkdir(folder, { mode: 0o711 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
}
