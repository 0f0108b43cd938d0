import type { TokenCredential } from "@azure/identity";
import type pg from "pg";
import type { Clock } from "../../../platform/clock.ts";
import type { AzureConfig, Stamp } from "../../../platform/config.ts";
import { createPool, type Db } from "../../../platform/db.ts";
import type { Log } from "../../../platform/log.ts";
import { readInstallation } from "../../../platform/stamps.ts";
import { createJournal } from "../journal.ts";
import type { RuntimeDriver } from "../runtime-driver.ts";
import { createArmBudget } from "./arm-budget.ts";
import { createArmClients } from "./arm-clients.ts";
import { withArmScope } from "./arm-scope.ts";
import { createAzureDriver } from "./azure-driver.ts";
import { createRecords } from "./records.ts";

/** As many runtimes are worked on at once by one process. */
const LOCKS = 32;

export type AzureSettings = {
  azure: AzureConfig;
  stamps: readonly Stamp[];
  credential: TokenCredential;
  databaseUrl: string;
  pool: pg.Pool;
  db: Db;
  clock: Clock;
  log: Log;
  pollMs?: number;
  /** For one request to Azure. */
  requestMs?: number;
};

/** The Azure driver with all that it needs: a budget for each subscription, and connections of its own for its locks. */
export function openAzureDriver(settings: AzureSettings): RuntimeDriver {
  const { azure, stamps, credential, databaseUrl, pool, db, clock, log, pollMs, requestMs } = settings;
  const openLockPool = (max: number) =>
    createPool({
      url: databaseUrl,
      max,
      applicationName: "openclaw-azure",
      onIdleError: (error) => log.warn({ error }, "database connection lost"),
    });
  const lockPool = openLockPool(LOCKS);
  const turnPool = openLockPool(Math.max(1, stamps.length));
  const driver = createAzureDriver({
    stamps,
    openArm: (stamp) =>
      createArmClients({
        stamp,
        endpoint: azure.resourceManagerEndpoint,
        credential,
        ...(requestMs === undefined ? {} : { requestMs }),
        budget: createArmBudget({
          pool,
          subscriptionId: stamp.subscriptionId,
          callsPerMinute: azure.armCallsPerMinute,
          log,
        }),
      }),
    records: createRecords({ db, clock }),
    journal: createJournal({ db, clock, log, trace: withArmScope }),
    lockPool,
    turnPool,
    readInstallation: () => readInstallation(db),
    ...(pollMs === undefined ? {} : { pollMs }),
  });
  return {
    ...driver,
    async close() {
      await driver.close();
      await lockPool.end();
      await turnPool.end();
    },
  };
}
