import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import type { Pool } from "pg";

/** What was found where, as sentences without the secret itself. */
export type Finding = string;

/** Texts and bytes that must hold no secret, each under the name of the place it is from. */
export function createHaystack() {
  const places = new Map<string, string[]>();

  function add(place: string, text: string): void {
    places.set(place, [...(places.get(place) ?? []), text]);
  }

  /** Every row of every table, as text; bytes are hexadecimal there. @returns how many rows. */
  async function addTables(pool: Pool): Promise<number> {
    const { rows: tables } = await pool.query<{ name: string }>(
      `SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables
       WHERE schemaname NOT IN ('pg_catalog', 'information_schema')`,
    );
    let count = 0;
    for (const { name } of tables) {
      const { rows } = await pool.query<{ row: string }>(`SELECT one::text AS row FROM ${name} AS one`);
      for (const { row } of rows) add(`table ${name}`, row);
      count += rows.length;
    }
    return count;
  }

  /** Every file below a folder, as bytes. @returns how many. */
  async function addFiles(folder: string): Promise<number> {
    const entries = await readdir(folder, { recursive: true, withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name));
    for (const file of files) {
      // One that is being written may be gone again.
      const bytes = await readFile(file).catch(() => Buffer.alloc(0));
      add(`file ${path.relative(folder, file)}`, bytes.toString("latin1"));
    }
    return files.length;
  }

  /** With which words a process and all its descendants were started; what they were told beside that only for descendants. */
  async function addProcesses(pid: number): Promise<number> {
    add("process arguments", await readFile(`/proc/${pid}/cmdline`, "latin1"));
    const children = (await readFile(`/proc/${pid}/task/${pid}/children`, "latin1")).trim().split(" ").filter(Boolean);
    let count = 1;
    for (const child of children) {
      add("environment of a child", await readFile(`/proc/${child}/environ`, "latin1"));
      count += await addProcesses(Number(child));
    }
    return count;
  }

  function find(secrets: ReadonlyMap<string, string>, patterns: readonly RegExp[]): Finding[] {
    const found = new Set<Finding>();
    for (const [place, texts] of places) {
      const text = texts.join("\n");
      for (const [secret, kind] of secrets)
        if (formsOf(secret).some((form) => text.includes(form))) found.add(`${kind} in ${place}`);
      for (const pattern of patterns) if (pattern.test(text)) found.add(`${pattern} in ${place}`);
    }
    return [...found].toSorted();
  }

  return { add, addTables, addFiles, addProcesses, find, places: () => [...places.keys()] };
}

/** As it is, in an address, as hexadecimal, and within base64 wherever it begins there. */
export function formsOf(secret: string): string[] {
  const bytes = Buffer.from(secret);
  const base64 = [0, 1, 2].map((before) => {
    const text = Buffer.concat([Buffer.alloc(before), bytes]).toString("base64url");
    // What depends on the bytes beside it is left out.
    return text.slice(before === 0 ? 0 : before + 1, -3);
  });
  const plain = base64.map((text) => text.replaceAll("-", "+").replaceAll("_", "/"));
  return [secret, encodeURIComponent(secret), bytes.toString("hex"), ...base64, ...plain];
}
