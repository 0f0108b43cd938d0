import { randomBytes } from "node:crypto";
import { link, mkdir, unlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ConflictError, UpstreamError } from "../../../platform/errors.ts";
import { hasCode, readIfThere } from "./files.ts";
import { identify, isAlive, type ProcessIdentity } from "./process-identity.ts";

const POLL_MS = 15;
const PATIENCE_MS = 90_000;

/**
 * Runs `work` while holding `file` as a lock among all processes of this machine. The file names its holder; it is void once that
 * process is gone, so a crash frees it.
 * @throws ConflictError when a living holder keeps it for 90 s.
 */
export async function withFileLock<T>(file: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!(await tryLock(file))) {
    if (performance.now() > deadline)
      throw new ConflictError("runtime_busy", `${file} is held by another operation; try again later.`);
    await delay(POLL_MS, undefined, signal === undefined ? {} : { signal });
  }
  try {
    return await work();
  } finally {
    await unlink(file);
  }
}

async function tryLock(file: string): Promise<boolean> {
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
  const draft = `${file}.${randomBytes(6).toString("hex")}.tmp`;
  await writeFile(draft, JSON.stringify(await ownIdentity()), { flag: "wx", mode: 0o600 });
  try {
    // A link appears whole or not at all, and only where there was none.
    await link(draft, file);
    return true;
  } catch (error) {
    if (!hasCode(error, "EEXIST")) throw error;
  } finally {
    await unlink(draft);
  }
  if (await isHeld(file)) return false;
  // Only whoever holds the right to break may remove another's lock, and looks again first: else two waiters could
  // both see the dead holder, and the slower one remove the lock that the faster one has taken since.
  await withFileLock(`${file}.break`, async () => {
    if (!(await isHeld(file))) await unlink(file).catch(unlessGone);
  });
  return false;
}

async function isHeld(file: string): Promise<boolean> {
  const text = await readIfThere(file);
  // Released meanwhile: there is nothing to break.
  if (text === undefined) return true;
  const holder = parseHolder(text);
  return holder !== undefined && (await isAlive(holder));
}

/** Undefined for what a power failure left of a lock file. */
function parseHolder(text: string): ProcessIdentity | undefined {
  try {
    const holder: Partial<ProcessIdentity> | null = JSON.parse(text);
    const { pid, startedAt } = holder ?? {};
    return typeof pid === "number" && typeof startedAt === "string" ? { pid, startedAt } : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

async function ownIdentity(): Promise<ProcessIdentity> {
  const own = await identify(process.pid);
  if (own === undefined)
    throw new UpstreamError("process_unknown", "The system doesn't tell when this process started.", {
      service: "system",
      retryable: false,
    });
  return own;
}

function unlessGone(error: unknown): void {
  if (!hasCode(error, "ENOENT")) throw error;
}
