import { lstat, rename } from "node:fs/promises";
import { syncFolder } from "../../../platform/sync-folder.ts";
import { hasCode } from "./files.ts";
import { removeTree } from "./remove-tree.ts";

/** Of a tenant's paths. */
type StatePaths = { folder: string; state: string };

/** Where a state is while it takes another's place. */
export function swapPaths({ state }: Pick<StatePaths, "state">) {
  return {
    /** Being written. */
    draft: `${state}.draft`,
    /** Whole: the state, from the moment that this name is there. */
    next: `${state}.next`,
    /** What was the state before. */
    previous: `${state}.previous`,
  };
}

/** Makes the draft the state; the caller holds the tenant's lock, and its runtime is stopped. Cut off, `settleState` finishes it. */
export async function putDraftInPlace(paths: StatePaths): Promise<void> {
  const { draft, next } = swapPaths(paths);
  await rename(draft, next);
  await syncFolder(paths.folder);
  await takeNext(paths);
}

/**
 * Finishes an exchange of the state that was cut off, or forgets one that had not come to where it counts. Whoever is about to use,
 * make or remove the state calls this first, inside the tenant's lock.
 */
export async function settleState(paths: StatePaths): Promise<void> {
  const { draft, next, previous } = swapPaths(paths);
  if (await exists(next)) await takeNext(paths);
  for (const left of [draft, previous]) await removeTree(left);
}

async function takeNext(paths: StatePaths): Promise<void> {
  const { next, previous } = swapPaths(paths);
  if (await exists(paths.state)) {
    await removeTree(previous);
    await rename(paths.state, previous);
  }
  await rename(next, paths.state);
  await syncFolder(paths.folder);
}

async function exists(file: string): Promise<boolean> {
  try {
    await lstat(file);
    return true;
  } catch (error) {
    if (hasCode(error, "ENOENT")) return false;
    throw error;
  }
}
