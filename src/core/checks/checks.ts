import { listRuntimeChecks, openOutside, openVaults, type Store } from "../context.ts";
import type { Check } from "../platform/check.ts";
import type { Clock } from "../platform/clock.ts";
import type { Config, Secrets } from "../platform/config.ts";
import type { Db } from "../platform/db.ts";
import { readSettingsInForce } from "../orchestrator/orchestrator.ts";
import { databaseChecks } from "./database.ts";
import { fleetChecks } from "./fleet.ts";
import { integrationChecks } from "./integrations.ts";
import { machineChecks } from "./machine.ts";
import { modelCheck } from "./models.ts";
import { redisCheck } from "./redis.ts";
import { stripeChecks } from "./stripe.ts";
import { telegramChecks } from "./telegram.ts";
import { vaultChecks } from "./vault.ts";

/** Everything that the doctor looks at. What `openStore` throws is what those of the database say. */
export async function listChecks(
  settings: { config: Config; secrets: Secrets },
  openStore: () => Promise<Store>,
  clock: Clock,
): Promise<Check[]> {
  const outside = openOutside(settings);
  return [
    ...machineChecks(settings.config),
    ...databaseChecks(openStore),
    redisCheck(settings.config),
    ...vaultChecks(await openVaults(settings), settings.config.vault.kind === "file"),
    ...(await listRuntimeChecks(settings.config, openStore, ({ db }) => readImage(db, settings.config))),
    ...fleetChecks(openStore),
    ...stripeChecks(settings, outside.stripe),
    ...telegramChecks(settings, outside.botApi, clock),
    modelCheck(settings),
    ...(await integrationChecks({ ...settings, clock }, openStore)),
  ];
}

/** The one that new tenants get: an operator's choice counts before the environment's. */
async function readImage(db: Db, { runtime: { image, modelsByTier } }: Config): Promise<string> {
  return (await readSettingsInForce({ db, environment: { image, modelsByTier } })).inForce.image;
}
