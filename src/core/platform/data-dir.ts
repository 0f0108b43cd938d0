import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import path from "node:path";
import { firstClosedFolder } from "./embedded-postgres-binaries.ts";

/** Where root's data goes when the folder it was meant for is closed to the users that work with it. */
const OPEN_FOLDER = "/var/lib/openclaw";

/**
 * The folder in which `wanted`'s data really lies. As root, the database and the runtimes run as users of their own, which
 * can't pass through a closed folder such as /root: then it is a folder of its own below /var/lib/openclaw, always the same
 * one. Data that lies at `wanted` already stays there.
 */
export async function reachableDataDir(wanted: string): Promise<string> {
  if (process.getuid?.() !== 0 || existsSync(path.join(wanted, "postgres"))) return wanted;
  if ((await firstClosedFolder(nearestExisting(path.dirname(wanted)))) === undefined) return wanted;
  return path.join(OPEN_FOLDER, createHash("sha256").update(wanted).digest("hex").slice(0, 12));
}

function nearestExisting(folder: string): string {
  return existsSync(folder) ? folder : nearestExisting(path.dirname(folder));
}
