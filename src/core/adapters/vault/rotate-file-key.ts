import { ConfigError } from "../../platform/errors.ts";
import { createSlots } from "../../platform/slots.ts";
import type { KeyRotation, RotationOptions } from "./key-rotation.ts";
import { type FileVaultOptions, openFolder, readSealed, writeSealed } from "./file-vault.ts";

const AT_ONCE = 8;

/**
 * Gives a file vault another key, while others go on reading and writing: a new key comes before the old ones, all versions are sealed
 * again with it, and the old ones are dropped. It may be killed at any moment and run again, and several at once do no harm.
 *
 * No writer is trusted to be quick. The sweep of drafts comes after the new key: whoever looked at the keys before has no draft any
 * more and begins anew, and what it brought in before is found by the pass that follows. With keys of the environment that holds for
 * processes that were started with the new one.
 */
export async function rotateFileKey(
  options: FileVaultOptions,
  { dryRun, signal, report }: RotationOptions,
): Promise<KeyRotation> {
  const { files, keys, keyFiles } = openFolder(options);
  await files.prepare();
  const [{ number: current }, ...old] = await keys.list();
  const isResumed = keyFiles !== undefined && old.length > 0;
  const isNew = keyFiles !== undefined && !isResumed;
  const wanted = isNew ? current + 1 : current;
  const pass = createPass(openFolder(options), { wanted, dryRun, signal, report });
  const source = keyFiles === undefined ? "environment" : "folder";
  if (dryRun) return { source, isResumed, ...(await pass()), oldKeys: isNew ? 1 : old.length };

  if (isNew) await keyFiles.addAfter(current);
  await files.sweepAllDrafts();
  let counts = await pass();
  let { resealed } = counts;
  while (counts.resealed > 0) {
    counts = await pass();
    resealed += counts.resealed;
  }
  if (keyFiles !== undefined && counts.unreadable.length === 0) await keyFiles.dropBelow(wanted);
  return {
    source,
    isResumed,
    ...counts,
    resealed,
    oldKeys: (await keys.list()).filter(({ number }) => number < wanted).length,
  };
}

type Counts = Pick<KeyRotation, "secrets" | "versions" | "resealed" | "unreadable">;

/** Looks at all there is, and seals again what needs it. */
function createPass(
  { files, keys }: ReturnType<typeof openFolder>,
  { wanted, dryRun, signal, report }: RotationOptions & { wanted: number },
): () => Promise<Counts> {
  /** Undefined: it is gone. */
  async function resealOne(name: string, version: string): Promise<"kept" | "resealed" | undefined> {
    for (;;) {
      const read = await readSealed(keys, name, () => files.readVersion(name, version));
      if (read === undefined) return undefined;
      if (read.key.number >= wanted) return "kept";
      if (dryRun || (await writeSealed(files, keys, name, { ...read.secret, version }))) return "resealed";
    }
  }

  /** @returns whether there was one. */
  async function replaceLegacy(name: string): Promise<boolean> {
    const found = await readSealed(keys, name, () => files.readLegacy(name));
    if (found === undefined || dryRun) return found !== undefined;
    const { version } = found.secret;
    await files.replaceLegacy(name, version, async () => {
      const read = await readSealed(keys, name, () => files.readLegacy(name));
      if (read === undefined) return false;
      await files.makeRoom(name);
      const isWritten = await writeSealed(files, keys, name, read.secret);
      await files.syncVersions(name);
      return isWritten;
    });
    return true;
  }

  async function resealAll(name: string, isLegacy: boolean, counts: Counts): Promise<void> {
    /** One that can't be opened must not keep the others from getting the new key. */
    async function attempt<Result>(work: () => Promise<Result>): Promise<Result | undefined> {
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof ConfigError && error.code === "vault_key_wrong")) throw error;
        if (!counts.unreadable.includes(name)) counts.unreadable.push(name);
        return undefined;
      }
    }
    const wasReplaced = isLegacy && ((await attempt(() => replaceLegacy(name))) ?? false);
    const results = [];
    for (const version of await files.listVersions(name)) results.push(await attempt(() => resealOne(name, version)));
    // Also what a rotation that was cut off has sealed again.
    if (!dryRun) await files.syncVersions(name);
    const found = results.filter((result) => result !== undefined);
    counts.secrets += found.length > 0 || wasReplaced ? 1 : 0;
    counts.versions += found.length + (dryRun && wasReplaced ? 1 : 0);
    counts.resealed += found.filter((result) => result === "resealed").length + (wasReplaced ? 1 : 0);
  }

  return async () => {
    const counts: Counts = { secrets: 0, versions: 0, resealed: 0, unreadable: [] };
    const legacy = new Set(await files.listLegacy());
    const names = [...new Set([...(await files.listVersioned()), ...legacy])].toSorted();
    const slots = createSlots(AT_ONCE);
    let done = 0;
    const work = names.map((name) =>
      slots.use(async () => {
        signal.throwIfAborted();
        await resealAll(name, legacy.has(name), counts);
        done += 1;
        report({ done, of: names.length });
      }),
    );
    await Promise.all(work);
    counts.unreadable.sort();
    return counts;
  };
}
