import type { TokenCredential } from "@azure/identity";
import type pg from "pg";
import type { Clock } from "../../../platform/clock.ts";
import type { Check } from "../../../platform/check.ts";
import type { AzureConfig, Stamp } from "../../../platform/config.ts";
import { createPool, type Db } from "../../../platform/db.ts";
import type { Log } from "../../../platform/log.ts";
import { readInstallation } from "../../../platform/stamps.ts";
import { createJournal } from "../journal.ts";
import type { RuntimeDriver } from "../runtime-driver.ts";
import type { RuntimeSnapshots } from "../runtime-snapshots.ts";
import { createArmBudget } from "./arm-budget.ts";
import { type ArmClients, createArmClients } from "./arm-clients.ts";
import { withArmScope } from "./arm-scope.ts";
import { createAzureDriver } from "./azure-driver.ts";
import { createAzureSnapshots } from "./azure-snapshots.ts";
import { azureRuntimeChecks } from "./checks.ts";
import { createRecords } from "./records.ts";

/** Between two looks at what is under way on Azure. */
const POLL_MS = 3_000;
/** As many runtimes are worked on at once by one process. */
const LOCKS = 20;

/** Of the process: its database, its clock and its log. */
type Store = { databaseUrl: string; pool: pg.Pool; db: Db; clock: Clock; log: Log };

export type AzureSettings = Store & {
  azure: AzureConfig;
  stamps: readonly Stamp[];
  credential: TokenCredential;
  pollMs?: number;
  /** For one request to Azure. */
  requestMs?: number;
};

/** The Azure driver with all that it needs: a budget for each subscription, and connections of its own for its locks. */
export function openAzureDriver(settings: AzureSettings): RuntimeDriver {
  const { options, closeLocks } = openOptions(settings, { locks: LOCKS, turns: Math.max(1, settings.stamps.length) });
  const driver = createAzureDriver(options);
  return {
    ...driver,
    async close() {
      await driver.close();
      await closeLocks();
    },
  };
}

/** For a command beside the daemons, which works on one runtime. */
export function openAzureSnapshots(settings: AzureSettings): RuntimeSnapshots {
  const { options, closeLocks } = openOptions(settings, { locks: 1, turns: 1 });
  return { ...createAzureSnapshots(options), close: closeLocks };
}

function openOptions(settings: AzureSettings, { locks, turns }: { locks: number; turns: number }) {
  const { azure, stamps, credential, databaseUrl, pool, db, clock, log, pollMs = POLL_MS, requestMs } = settings;
  const openLockPool = (max: number) =>
    createPool({
      url: databaseUrl,
      max,
      applicationName: "openclaw-azure",
      onIdleError: (error) => log.warn({ error }, "database connection lost"),
    });
  const lockPool = openLockPool(locks);
  const turnPool = openLockPool(turns);
  return {
    options: {
      stamps,
      openArm: (stamp: Stamp) => openArm(stamp, { azure, credential, pool, log, requestMs }),
      records: createRecords({ db, clock }),
      journal: createJournal({ db, clock, log, trace: withArmScope }),
      lockPool,
      turnPool,
      readInstallation: () => readInstallation(db),
      pollMs,
    },
    async closeLocks() {
      await lockPool.end();
      await turnPool.end();
    },
  };
}

/** Calls to Azure for one stamp, on the budget of its subscription. */
function openArm(
  stamp: Stamp,
  settings: Pick<AzureSettings, "azure" | "credential" | "pool" | "log"> & { requestMs?: number | undefined },
): ArmClients {
  const { azure, credential, pool, log, requestMs } = settings;
  const { subscriptionId } = stamp;
  return createArmClients({
    stamp,
    endpoint: azure.resourceManagerEndpoint,
    credential,
    budget: createArmBudget({ pool, subscriptionId, callsPerMinute: azure.armCallsPerMinute, log }),
    ...(requestMs === undefined ? {} : { requestMs }),
  });
}

/** What can be looked at of Azure; the database is opened by the first look that needs it. */
export function openAzureChecks(
  settings: Pick<AzureSettings, "azure" | "stamps"> & {
    readImage: (store: Store) => Promise<string>;
    credential: () => Promise<TokenCredential>;
  },
  openStore: () => Promise<Store>,
): Check[] {
  const { azure, stamps, readImage, credential } = settings;
  return azureRuntimeChecks({
    stamps,
    readImage: async () => readImage(await openStore()),
    credential,
    openArm: async (stamp) => openArm(stamp, { ...(await openStore()), azure, credential: await credential() }),
    countRuntimes: async (stamp) => createRecords(await openStore()).count(stamp.id),
  });
}
