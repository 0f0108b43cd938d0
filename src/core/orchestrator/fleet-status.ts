import { sql } from "kysely";
import type { RuntimeState } from "../adapters/runtime/runtime-driver.ts";
import type { Db } from "../platform/db.ts";
import type { TenantStatus } from "../tenants/tenants.ts";
import { readSweeps, type SweepState } from "./sweep-store.ts";

/** All of it as last observed. */
export type FleetStatus = {
  /** How many tenants of each status have their runtime in each state. */
  tenants: { status: TenantStatus; state: RuntimeState; count: number }[];
  /** What runs, or would when it is woken; the image is empty where none was seen. */
  images: { image: string; awake: number; asleep: number }[];
  /** On purpose: until the next message, or because the tenant may not run. */
  asleep: { idle: number; stopped: number };
  /** Runtimes whose last steps failed. */
  failing: number;
  provisioning: OldestProvisioning | null;
  sweep: SweepState;
};

/** The tenant that has waited longest for its first healthy moment. */
export type OldestProvisioning = { tenant: string; since: Date; deadline: Date | null; trouble: string | null };

/** The fleet at a glance, from the database alone. */
export async function readFleetStatus(db: Db): Promise<FleetStatus> {
  return {
    tenants: await countStates(db),
    images: await countImages(db),
    ...(await countSleepers(db)),
    provisioning: (await findOldestProvisioning(db)) ?? null,
    sweep: await readSweeps(db),
  };
}

async function countStates(db: Db): Promise<FleetStatus["tenants"]> {
  return db
    .selectFrom("tenants")
    .leftJoin("runtimes", "runtimes.tenantId", "tenants.id")
    .select(({ fn }) => [
      "tenants.status",
      sql<RuntimeState>`coalesce(runtimes.state, 'absent')`.as("state"),
      fn.countAll<number>().as("count"),
    ])
    .groupBy(["tenants.status", sql`2`])
    .orderBy("tenants.status")
    .orderBy("state")
    .execute();
}

async function countImages(db: Db): Promise<FleetStatus["images"]> {
  const isAsleep = sql<boolean>`state = 'asleep'`;
  return db
    .selectFrom("runtimes")
    .select(({ fn }) => [
      "image",
      fn
        .countAll<number>()
        .filterWhere(sql<boolean>`NOT ${isAsleep}`)
        .as("awake"),
      fn.countAll<number>().filterWhere(isAsleep).as("asleep"),
    ])
    .where("state", "!=", "absent")
    .groupBy("image")
    .orderBy("image")
    .execute();
}

async function countSleepers(db: Db): Promise<Pick<FleetStatus, "asleep" | "failing">> {
  const isIdle = sql<boolean>`status = 'active' AND hibernated_at IS NOT NULL`;
  const isStopped = sql<boolean>`status IN ('pending', 'suspended')`;
  const { idle, stopped, failing } = await db
    .selectFrom("tenants")
    .innerJoin("runtimes", "runtimes.tenantId", "tenants.id")
    .select(({ fn }) => [
      fn
        .countAll<number>()
        .filterWhere(sql<boolean>`state = 'asleep' AND ${isIdle}`)
        .as("idle"),
      fn
        .countAll<number>()
        .filterWhere(sql<boolean>`state = 'asleep' AND ${isStopped}`)
        .as("stopped"),
      fn.countAll<number>().filterWhere("attempts", ">", 0).as("failing"),
    ])
    .executeTakeFirstOrThrow();
  return { asleep: { idle, stopped }, failing };
}

async function findOldestProvisioning(db: Db): Promise<OldestProvisioning | undefined> {
  return db
    .selectFrom("tenants")
    .leftJoin("runtimes", "runtimes.tenantId", "tenants.id")
    .select([
      "tenants.slug as tenant",
      "tenants.statusChangedAt as since",
      "tenants.provisioningDeadline as deadline",
      "runtimes.reason as trouble",
    ])
    .where("tenants.status", "=", "provisioning")
    .orderBy("tenants.statusChangedAt")
    .limit(1)
    .executeTakeFirst();
}
