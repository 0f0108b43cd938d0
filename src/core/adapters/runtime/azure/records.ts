import { type Selectable, sql } from "kysely";
import type { Clock } from "../../../platform/clock.ts";
import type { Db } from "../../../platform/db.ts";
import type { StampId, TenantId } from "../../../platform/ids.ts";
import type { AzureRuntimes } from "../../../platform/schema.ts";
import type { RuntimeSpec } from "../runtime-driver.ts";

/** What a runtime on Azure was told to be last: the driver's own memory, which Azure itself can't keep for what sleeps (F39). */
export type AzureRecord = {
  tenantId: TenantId;
  stampId: StampId;
  /** Undefined once it is removed, while its state is kept. */
  spec: RuntimeSpec | undefined;
  desired: "awake" | "asleep";
  principalId: string | undefined;
  address: string | undefined;
  /** `grantOf` the spec for which its rights were settled last. */
  granted: string | undefined;
};

export type RecordChange = Partial<Omit<AzureRecord, "tenantId" | "stampId">>;

export function createRecords({ db, clock }: { db: Db; clock: Clock }) {
  return {
    async find(tenantId: TenantId): Promise<AzureRecord | undefined> {
      const row = await db.selectFrom("azureRuntimes").selectAll().where("tenantId", "=", tenantId).executeTakeFirst();
      return row && parse(row);
    },

    async all(): Promise<Map<TenantId, AzureRecord>> {
      const rows = await db.selectFrom("azureRuntimes").selectAll().execute();
      return new Map(rows.map((row) => [row.tenantId, parse(row)]));
    },

    /** A first record, awake; one that is there already is left alone. */
    async create(tenantId: TenantId, stampId: StampId): Promise<void> {
      await db
        .insertInto("azureRuntimes")
        .values({ tenantId, stampId, desired: "awake", updatedAt: clock.now() })
        .onConflict((conflict) => conflict.doNothing())
        .execute();
    },

    async change(tenantId: TenantId, { spec, ...change }: RecordChange): Promise<void> {
      const given = Object.fromEntries(Object.entries(change).map(([key, value]) => [key, value ?? null]));
      await db
        .updateTable("azureRuntimes")
        .set({ ...given, ...(spec === undefined ? {} : { spec: JSON.stringify(spec) }), updatedAt: clock.now() })
        .where("tenantId", "=", tenantId)
        .execute();
    },

    /** The runtime is gone, its state is kept. */
    async empty(tenantId: TenantId): Promise<void> {
      await db
        .updateTable("azureRuntimes")
        .set({
          spec: sql`NULL`,
          desired: "awake",
          principalId: null,
          address: null,
          granted: null,
          updatedAt: clock.now(),
        })
        .where("tenantId", "=", tenantId)
        .execute();
    },

    /** The number of the tenant's next revision, given once. */
    async nextRevision(tenantId: TenantId): Promise<number> {
      const { revisions } = await db
        .updateTable("azureRuntimes")
        .set((eb) => ({ revisions: eb("revisions", "+", 1) }))
        .where("tenantId", "=", tenantId)
        .returning("revisions")
        .executeTakeFirstOrThrow();
      return revisions;
    },

    /** How many runtimes there are on a stamp. */
    async count(stampId: StampId): Promise<number> {
      const { runtimes } = await db
        .selectFrom("azureRuntimes")
        .select((eb) => eb.fn.countAll<number>().as("runtimes"))
        .where("stampId", "=", stampId)
        .where("spec", "is not", null)
        .executeTakeFirstOrThrow();
      return runtimes;
    },

    async forget(tenantId: TenantId): Promise<void> {
      await db.deleteFrom("azureRuntimes").where("tenantId", "=", tenantId).execute();
    },
  };
}

export type Records = ReturnType<typeof createRecords>;

type Row = Selectable<AzureRuntimes>;

function parse(row: Row): AzureRecord {
  return {
    tenantId: row.tenantId,
    stampId: row.stampId,
    // Written by us alone, from a RuntimeSpec.
    spec: (row.spec as RuntimeSpec | null) ?? undefined,
    desired: row.desired,
    principalId: row.principalId ?? undefined,
    address: row.address ?? undefined,
    granted: row.granted ?? undefined,
  };
}
