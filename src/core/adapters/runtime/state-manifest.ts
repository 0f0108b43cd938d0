import { z } from "zod";
import { UsageError } from "../../platform/errors.ts";
import { parseTenantId, type TenantId } from "../../platform/ids.ts";

/** More of anything is taken for an attempt to choke whoever reads it. */
export const MAX_ENTRIES = 250_000;
export const MAX_MANIFEST_BYTES = 128 * 1024 * 1024;
/** Later ones don't fit into every file system. */
export const LATEST_MS = (2 ** 32 - 1) * 1_000;
const MAX_PATH_BYTES = 3_000;
const MAX_DEPTH = 100;

const VERSION = 1;
const FORMAT = "openclaw tenant state";

const count = z.int().min(0);
const mode = z.int().min(0).max(0o777);
const modifiedMs = z.number().min(0).max(LATEST_MS);
const entrySchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("folder"), path: z.string(), mode, modifiedMs }),
  z.object({
    kind: z.literal("file"),
    path: z.string(),
    mode,
    modifiedMs,
    size: count,
    sha256: z.string().regex(/^[0-9a-f]{64}$/),
  }),
  z.object({ kind: z.literal("link"), path: z.string(), target: z.string() }),
]);
const manifestSchema = z.object({
  format: z.literal(FORMAT),
  version: z.literal(VERSION),
  tenantId: z.string().refine((text) => parseTenantId(text) === text),
  slug: z.string().max(100),
  /** ISO 8601. */
  createdAt: z.iso.datetime(),
  driver: z.string().max(100),
  /** What the runtime was told to be when it last ran; null: it had been removed. */
  spec: z.object({ image: z.string(), hash: z.string() }).nullable(),
  files: count,
  bytes: count,
  /** What lies there and is not in the archive; `isLoss` unless it holds nothing, such as a socket. */
  leftOut: z.array(z.object({ path: z.string(), reason: z.string(), isLoss: z.boolean() })).max(MAX_ENTRIES),
  /** A folder comes before what is in it. */
  entries: z.array(entrySchema).max(MAX_ENTRIES),
});

/** One thing in a state folder; paths are relative to it, with slashes. */
export type StateEntry = z.infer<typeof entrySchema>;
export type LeftOut = z.infer<typeof manifestSchema>["leftOut"][number];
/** What an archive of a tenant's state holds, as its first file says. */
export type StateManifest = Omit<z.infer<typeof manifestSchema>, "tenantId"> & { tenantId: TenantId };

export function manifestOf(
  about: Pick<StateManifest, "tenantId" | "slug" | "createdAt" | "driver" | "spec">,
  { entries, leftOut }: Pick<StateManifest, "entries" | "leftOut">,
): StateManifest {
  return { format: FORMAT, version: VERSION, ...about, ...sumUp(entries), leftOut, entries };
}

/**
 * Reads a manifest that anybody may have written: afterwards every path stays within the state, below a folder that comes before it, and
 * every link leads to somewhere within.
 * @throws UsageError
 */
export function parseManifest(text: string): StateManifest {
  const manifest = readManifest(text);
  const known = new Map<string, StateEntry["kind"]>([["", "folder"]]);
  for (const entry of manifest.entries) {
    const problem = problemOf(entry, known);
    if (problem !== undefined) throw damaged(`${JSON.stringify(entry.path)}: ${problem}`);
    known.set(entry.path, entry.kind);
  }
  const { files, bytes } = sumUp(manifest.entries);
  if (files !== manifest.files || bytes !== manifest.bytes) throw damaged("its sums don't fit what it lists");
  return manifest;
}

function readManifest(text: string): StateManifest {
  try {
    const value: unknown = JSON.parse(text);
    if (z.object({ format: z.literal(FORMAT), version: z.number().gt(VERSION) }).safeParse(value).success)
      throw new UsageError("archive_too_new", "The archive was made by a newer openclaw; import it with that one.");
    const manifest = manifestSchema.parse(value);
    return { ...manifest, tenantId: manifest.tenantId as TenantId };
  } catch (error) {
    if (error instanceof z.ZodError) throw damaged(firstProblem(error), error);
    if (error instanceof SyntaxError) throw damaged("it is not JSON", error);
    throw error;
  }
}

function firstProblem({ issues: [issue] }: z.ZodError): string {
  return issue === undefined ? "it has another form" : [issue.path.join("."), issue.message].join(" ").trim();
}

/** Of a state that is more than an archive may hold. */
export function tooLarge(problem: string): UsageError {
  return new UsageError("state_too_large", `The state can't be archived: ${problem}.`);
}

function damaged(problem: string, cause?: Error): UsageError {
  return new UsageError("archive_damaged", `The archive's manifest can't be used: ${problem}.`, { cause });
}

function sumUp(entries: readonly StateEntry[]): { files: number; bytes: number } {
  const files = entries.filter((entry) => entry.kind === "file");
  return { files: files.length, bytes: files.reduce((sum, { size }) => sum + size, 0) };
}

function problemOf(entry: StateEntry, known: ReadonlyMap<string, StateEntry["kind"]>): string | undefined {
  if (known.has(entry.path)) return "it is listed twice";
  const problem = pathProblem(entry.path) ?? (entry.kind === "link" ? targetProblem(entry) : undefined);
  if (problem !== undefined) return problem;
  return known.get(parentOf(entry.path)) === "folder" ? undefined : "its folder is not listed before it";
}

/** Why nothing at this path can be kept in an archive; undefined: it can. */
export function pathProblem(path: string): string | undefined {
  const names = path.split("/");
  if (path.includes("\0") || names.some((name) => ["", ".", ".."].includes(name)))
    return "it is no path within the state";
  if (names.length > MAX_DEPTH) return "it lies too deep";
  return Buffer.byteLength(path) > MAX_PATH_BYTES ? "its path is too long" : undefined;
}

/**
 * Why a link can't be kept in an archive. It has to lead to somewhere within the state by climbing first and descending then: whatever
 * links lie on that way, it can't get out.
 */
export function targetProblem({ path, target }: { path: string; target: string }): string | undefined {
  const steps = target.split("/");
  const down = steps.findIndex((step) => step !== "..");
  const climbed = down < 0 ? steps.length : down;
  const isWithin = !target.startsWith("/") && climbed < path.split("/").length && !steps.includes("..", climbed);
  if (!isWithin) return "it leads out of the state, or may";
  const isUsable = target !== "" && !target.includes("\0") && Buffer.byteLength(target) <= MAX_PATH_BYTES;
  return isUsable ? undefined : "it leads nowhere";
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}
