import { randomBytes } from "node:crypto";
import { access, chmod, link, mkdir, readdir, rename, rm, symlink } from "node:fs/promises";
import path from "node:path";
import { makeDataDir } from "../../platform/data-dir.ts";
import { syncFolder } from "../../platform/sync-folder.ts";
import { hasCode, readIfThere, writeSynced } from "./synced-file.ts";

export type VaultFiles = ReturnType<typeof createVaultFiles>;

/**
 * `versions/<name>/<version>` holds what was sealed, and `newest/<name>` is a link to one of these: what seals a version again never
 * touches which is the newest. `secrets/<name>` is the newest of before there were links, and gives way to one.
 *
 * All comes in by renaming a draft, so that nobody sees half of a file. Who begins something registers a draft first, and looks at
 * keys and secrets after that: whoever sweeps drafts away has those that looked before begin anew, however long they were held up.
 */
export function createVaultFiles(folder: string) {
  const newest = path.join(folder, "newest");
  const versions = path.join(folder, "versions");
  const drafts = path.join(folder, "drafts");
  const legacy = path.join(folder, "secrets");
  let prepared: Promise<void> | undefined;

  const versionsOf = (name: string) => path.join(versions, name);
  const fileOf = (name: string, version: string) => path.join(versions, name, version);
  const targetOf = (name: string, version: string) => path.relative(newest, fileOf(name, version));
  const newDraft = (name: string) => path.join(drafts, `${name}.${randomBytes(6).toString("hex")}`);

  async function makeFolders(): Promise<void> {
    await makeDataDir(path.dirname(folder));
    for (const one of [newest, versions, drafts, legacy]) await mkdir(one, { recursive: true, mode: 0o700 });
    await chmod(folder, 0o700);
    await syncFolder(folder);
  }

  async function sweepDrafts(isSwept: (draft: string) => boolean): Promise<void> {
    for (const draft of await readdir(drafts)) if (isSwept(draft)) await rm(path.join(drafts, draft), { force: true });
  }

  /** Writers of before left their drafts here. */
  async function listLegacy(): Promise<string[]> {
    return (await readdir(legacy)).filter((name) => !name.endsWith(".tmp"));
  }

  return {
    prepare: () => (prepared ??= makeFolders()),
    isUsed: async () => (await readdir(newest)).length + (await readdir(legacy)).length > 0,

    async readNewest(name: string): Promise<Buffer | undefined> {
      const link = path.join(newest, name);
      // A link that comes in the place of the old file is there before that goes.
      return (await readIfThere(link)) ?? (await readIfThere(path.join(legacy, name))) ?? readIfThere(link);
    },
    readLegacy: (name: string) => readIfThere(path.join(legacy, name)),
    readVersion: (name: string, version: string) => readIfThere(fileOf(name, version)),

    async listNames(): Promise<string[]> {
      return [...new Set([...(await readdir(newest)), ...(await listLegacy())])].toSorted();
    },
    listLegacy,
    /** Also those that have no newest one, as their writer was cut off. */
    listVersioned: () => readdir(versions),
    /** Oldest first. */
    async listVersions(name: string): Promise<string[]> {
      try {
        return (await readdir(versionsOf(name))).toSorted();
      } catch (error) {
        if (hasCode(error, "ENOENT")) return [];
        throw error;
      }
    },
    async makeRoom(name: string): Promise<void> {
      const made = await mkdir(versionsOf(name), { recursive: true, mode: 0o700 });
      if (made !== undefined) await syncFolder(versions);
    },

    /** @returns false when nothing was written, as somebody swept it away or the name is gone. */
    async writeVersion(name: string, version: string, seal: () => Promise<Buffer>): Promise<boolean> {
      const draft = newDraft(name);
      try {
        await writeSynced(draft, seal);
        await rename(draft, fileOf(name, version));
        return true;
      } catch (error) {
        await rm(draft, { force: true });
        if (hasCode(error, "ENOENT")) return false;
        throw error;
      }
    },
    async syncVersions(name: string): Promise<void> {
      try {
        await syncFolder(versionsOf(name));
      } catch (error) {
        // Who deletes at the same time is right.
        if (!hasCode(error, "ENOENT")) throw error;
      }
    },
    /** @returns whether the version is there still: another may have deleted the name. */
    async pointTo(name: string, version: string): Promise<boolean> {
      const draft = newDraft(name);
      try {
        await symlink(targetOf(name, version), draft);
        await rename(draft, path.join(newest, name));
        await access(fileOf(name, version));
      } catch (error) {
        if (hasCode(error, "ENOENT")) return false;
        throw error;
      }
      await rm(path.join(legacy, name), { force: true });
      await syncFolder(newest);
      return true;
    },
    /**
     * Has a link come in the place of the old file, unless there is one. `write` makes a version of that file, and says whether. The
     * file stays where it is when that was swept away.
     */
    async replaceLegacy(name: string, version: string, write: () => Promise<boolean>): Promise<void> {
      const draft = newDraft(name);
      try {
        await symlink(targetOf(name, version), draft);
        if (!(await write())) return;
        await link(draft, path.join(newest, name));
      } catch (error) {
        if (hasCode(error, "ENOENT")) return;
        // Written anew meanwhile.
        if (!hasCode(error, "EEXIST")) throw error;
      } finally {
        await rm(draft, { force: true });
      }
      await syncFolder(newest);
      await rm(path.join(legacy, name), { force: true });
      await syncFolder(legacy);
    },

    async removeVersion(name: string, version: string): Promise<void> {
      await rm(fileOf(name, version), { force: true });
    },
    /** In this order: who is just writing comes either before, and is removed, or has to begin anew. */
    async remove(name: string): Promise<void> {
      await rm(path.join(legacy, name), { force: true });
      await sweepDrafts((draft) => draft.startsWith(`${name}.`));
      await rm(path.join(newest, name), { force: true });
      await rm(versionsOf(name), { recursive: true, force: true, maxRetries: 5 });
      for (const changed of [legacy, newest, versions]) await syncFolder(changed);
    },
    /** From now on, all that comes in was begun after this. */
    async sweepAllDrafts(): Promise<void> {
      await sweepDrafts(() => true);
      const left = (await readdir(legacy)).filter((name) => name.endsWith(".tmp"));
      for (const name of left) await rm(path.join(legacy, name), { force: true });
    },
  };
}
