import { sql } from "kysely";
import type { Db } from "../platform/db.ts";
import type { DriftKind } from "./plan.ts";
import type { Orphan } from "./orphans.ts";

export type DriftCounts = Partial<Record<DriftKind, number>>;

/** What a sweep that ended well found. */
export type SweepFindings = { runtimes: number; drift: DriftCounts; orphans: readonly Orphan[] };

/** The last sweeps, and their age by the database's clock: null while none has ended well. */
export type SweepState = SweepFindings & {
  ageSeconds: number | null;
  succeededAt: Date | null;
  endedAt: Date | null;
  /** Why the last one came to nothing; null: it did not. */
  problem: string | null;
};

/** @returns how many sweeps that makes, or undefined while another holds the turn. */
export async function takeTurn(db: Db, lease: string, ms: number): Promise<number | undefined> {
  const row = await db
    .updateTable("fleetSweeps")
    .set({ lease, leaseUntil: inMs(ms), begun: sql`begun + 1` })
    .where(sql<boolean>`lease_until IS NULL OR lease_until <= now()`)
    .returning("begun")
    .executeTakeFirst();
  return row?.begun;
}

/** @returns whether it is still this one's turn. */
export async function keepTurn(db: Db, lease: string, ms: number): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable("fleetSweeps")
    .set({ leaseUntil: inMs(ms) })
    .where("lease", "=", lease)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

/** Records what came of it and gives the turn back, unless it is another's by now. */
export async function endTurn(db: Db, lease: string, outcome: SweepFindings | { problem: string }): Promise<void> {
  const now = sql<Date>`now()`;
  await db
    .updateTable("fleetSweeps")
    .set({ lease: null, leaseUntil: null, endedAt: now, ...("problem" in outcome ? outcome : succeeded(outcome, now)) })
    .where("lease", "=", lease)
    .execute();
}

function succeeded({ runtimes, drift, orphans }: SweepFindings, succeededAt: ReturnType<typeof sql<Date>>) {
  return { problem: null, succeededAt, runtimes, drift: JSON.stringify(drift), orphans: JSON.stringify(orphans) };
}

export async function readSweeps(db: Db): Promise<SweepState> {
  const row = await db
    .selectFrom("fleetSweeps")
    .select(["succeededAt", "endedAt", "problem", "runtimes", "drift", "orphans"])
    .select(sql<number | null>`extract(epoch FROM now() - succeeded_at)::float8`.as("ageSeconds"))
    .executeTakeFirstOrThrow();
  // Only endTurn writes them.
  return { ...row, drift: row.drift as DriftCounts, orphans: row.orphans as Orphan[] };
}

function inMs(ms: number) {
  return sql<Date>`now() + ${ms} * interval '1 millisecond'`;
}
