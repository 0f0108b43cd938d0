import { readFile } from "node:fs/promises";
import { z } from "zod";
import type { AzureConfig, Stamp } from "./config.ts";
import type { Db } from "./db.ts";
import { ConfigError, errorMessage } from "./errors.ts";
import type { StampId, TenantId } from "./ids.ts";

const stampSchema = z
  .strictObject({
    id: z
      .string()
      .regex(/^[a-z][a-z0-9-]{0,30}$/)
      .transform((text) => text as StampId),
    subscriptionId: z.uuid(),
    resourceGroup: z.string().regex(/^[\w.()-]{1,90}$/),
    location: z.string().regex(/^[a-z][a-z0-9]+$/),
    environmentId: z
      .string()
      .regex(/^\/subscriptions\/[^/]+\/resourceGroups\/[^/]+\/providers\/Microsoft\.App\/managedEnvironments\/[^/]+$/i),
    acrServer: z.string().min(1).optional(),
    vaultName: z.string().regex(/^[a-z][a-z0-9-]{1,22}[a-z0-9]$/i),
    vaultUrl: z.url({ protocol: /^https$/ }).optional(),
    storageAccount: z.string().regex(/^[a-z0-9]{3,24}$/),
    reachableFrom: z.enum(["environment", "network"]).default("environment"),
    coresQuota: z.number().positive().optional(),
  })
  .transform(({ vaultUrl, acrServer, coresQuota, ...rest }): Stamp => ({
    ...rest,
    acrServer,
    coresQuota,
    vaultUrl: vaultUrl?.replace(/\/+$/, "") ?? `https://${rest.vaultName}.vault.azure.net`,
  }));

const fileSchema = z.strictObject({ stamps: z.array(stampSchema) });

/**
 * Every stamp: the one of the environment's variables first, then those of its file, a JSON object such as
 * `{"stamps": [{"id": "two", "subscriptionId": …, "resourceGroup": …, "location": …, "environmentId": …, "vaultName": …, "storageAccount": …}]}`.
 * @throws ConfigError naming each mistake in the file.
 */
export async function readStamps({ stamp, stampsFile }: Pick<AzureConfig, "stamp" | "stampsFile">): Promise<Stamp[]> {
  if (stampsFile === undefined) return [stamp];
  const parsed = fileSchema.safeParse(await readJson(stampsFile));
  if (!parsed.success) {
    throw new ConfigError(
      "stamps_invalid",
      parsed.error.issues.map(({ path, message }) => `${stampsFile}: ${path.join(".") || "all of it"}: ${message}`),
    );
  }
  const stamps = [stamp, ...parsed.data.stamps];
  const twice = stamps.map(({ id }) => id).filter((id, index, all) => all.indexOf(id) !== index);
  if (twice.length > 0)
    throw new ConfigError("stamps_invalid", [`${stampsFile}: the stamp "${twice[0]}" is there twice`]);
  refuseShared(stampsFile, stamps);
  return stamps;
}

/** A resource group has one job that works on a share, and each stamp a turn of its own with it. */
function refuseShared(stampsFile: string, stamps: readonly Stamp[]): void {
  const groups = new Map<string, Stamp>();
  for (const stamp of stamps) {
    const group = `${stamp.subscriptionId}/${stamp.resourceGroup}`.toLowerCase();
    const other = groups.get(group);
    if (other !== undefined)
      throw new ConfigError("stamps_invalid", [
        `${stampsFile}: the stamps "${other.id}" and "${stamp.id}" have the same resource group; give each its own`,
      ]);
    groups.set(group, stamp);
  }
}

/** The stamp of a tenant; undefined when there is no such tenant. */
export async function findStampOf(db: Db, tenantId: TenantId): Promise<StampId | undefined> {
  const row = await db.selectFrom("tenants").select("stampId").where("id", "=", tenantId).executeTakeFirst();
  return row?.stampId;
}

/** Role assignments that Azure allows in a subscription. */
const ROLE_ASSIGNMENTS = 4_000;
/** Of a runtime, one for each of its secrets. */
export const ROLES_PER_RUNTIME = 4;
/** The rest is for rotations, in which a runtime has twice as many, and for whatever else lives there. */
const SHARE_FOR_RUNTIMES = 0.9;

/** How many runtimes fit on `stamp`, which shares its subscription's quota with the other stamps there. */
export function roomOf(stamp: Stamp, stamps: readonly Stamp[]): number {
  // Azure writes its ids in any case.
  const own = stamp.subscriptionId.toLowerCase();
  const sharing = stamps.filter(({ subscriptionId }) => subscriptionId.toLowerCase() === own).length;
  return Math.floor((ROLE_ASSIGNMENTS * SHARE_FOR_RUNTIMES) / ROLES_PER_RUNTIME / Math.max(1, sharing));
}

/** Makes the stamps known to the database, in their order, so that tenants are put on them. One that is no longer configured stays. */
export async function registerStamps(db: Db, stamps: readonly Stamp[]): Promise<void> {
  for (const [position, stamp] of stamps.entries()) {
    const row = { position, maxRuntimes: roomOf(stamp, stamps) };
    await db
      .insertInto("stamps")
      .values({ id: stamp.id, ...row })
      .onConflict((conflict) => conflict.column("id").doUpdateSet(row))
      .execute();
  }
}

/** This control plane's mark, the same for all its daemons: it is on everything that it makes outside. */
export async function readInstallation(db: Db): Promise<string> {
  const { id } = await db.selectFrom("installation").select("id").executeTakeFirstOrThrow();
  return id;
}

async function readJson(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, "utf8"));
  } catch (error) {
    throw new ConfigError("stamps_unreadable", [`${file} can't be read: ${errorMessage(error)}`], { cause: error });
  }
}
