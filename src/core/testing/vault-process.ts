/**
 * A process of its own beside others at one file vault: `write <folder> <name>…` writes the names in turn and reads each back, and
 * prints what is done for sure; `rotate <folder>` changes the key, and prints how far it is.
 */
import { setTimeout as delay } from "node:timers/promises";
import { createFileVault } from "../adapters/vault/file-vault.ts";
import { rotateFileKey } from "../adapters/vault/rotate-file-key.ts";

/** At full speed, there would soon be more to seal again than a test has time for. */
const PACE_MS = 5;

const [task, folder = "", ...names] = process.argv.slice(2);
const stopping = new AbortController();
process.once("SIGTERM", () => stopping.abort());
const tell = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`);

async function write(): Promise<void> {
  const vault = createFileVault({ folder, key: undefined });
  for (let nth = 0; !stopping.signal.aborted; nth += 1) {
    const name = names[nth % names.length] ?? "";
    const value = `${process.pid} ${nth}`;
    const version = await vault.set(name, value);
    if ((await vault.getVersion(name, version)) !== value) throw new Error(`${name} ${version} was not read back`);
    if ((await vault.getNewest(name)) === undefined) throw new Error(`${name} is gone`);
    tell({ name, version, value });
    await delay(PACE_MS);
  }
}

async function rotate(): Promise<void> {
  const { signal } = stopping;
  tell(await rotateFileKey({ folder, key: undefined }, { dryRun: false, signal, report: tell }));
}

await (task === "rotate" ? rotate() : write());
