import { type RawBuilder, sql } from "kysely";
import type { Db } from "./db.ts";
import { pause } from "./pause.ts";
import type { DB } from "./schema.ts";

const BATCH = 5_000;
const PAUSE_MS = 50;

/**
 * Deletes the rows that `condition` selects, in short transactions, so that nobody waits for a lock; rows that somebody
 * works with are left for the next time. Stops early at `signal`.
 * @returns how many.
 */
export async function pruneRows(
  db: Db,
  table: keyof DB,
  condition: RawBuilder<boolean>,
  signal: AbortSignal,
): Promise<number> {
  for (let total = 0; ;) {
    const { numAffectedRows = 0n } = await sql`
      DELETE FROM ${sql.table(table)} WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM ${sql.table(table)} WHERE ${condition} LIMIT ${BATCH} FOR UPDATE SKIP LOCKED
      ))`.execute(db);
    total += Number(numAffectedRows);
    if (numAffectedRows < BATCH || signal.aborted) return total;
    await pause(PAUSE_MS, signal);
  }
}
