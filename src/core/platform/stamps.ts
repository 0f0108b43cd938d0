import { readFile } from "node:fs/promises";
import { z } from "zod";
import type { AzureConfig, Stamp } from "./config.ts";
import { ConfigError, errorMessage } from "./errors.ts";
import type { StampId } from "./ids.ts";

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
  return stamps;
}

async function readJson(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, "utf8"));
  } catch (error) {
    throw new ConfigError("stamps_unreadable", [`${file} can't be read: ${errorMessage(error)}`], { cause: error });
  }
}
