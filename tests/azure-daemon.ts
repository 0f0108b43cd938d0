/**
 * A whole daemon on a loopback Azure, started by `startAzureDaemon`. It differs from `openclaw daemon` in one thing: what is under
 * way on Azure is looked at every few milliseconds, since it takes no longer there.
 */
import { DefaultAzureCredential } from "@azure/identity";
import { openAzureDriver } from "../src/core/adapters/runtime/azure/open-azure-driver.ts";
import { openStore } from "../src/core/context.ts";
import { loadConfig } from "../src/core/platform/config.ts";
import { createLog } from "../src/core/platform/log.ts";
import { readStamps } from "../src/core/platform/stamps.ts";
import { runDaemon } from "../src/daemon/daemon.ts";
import { ROLES } from "../src/daemon/parts.ts";

const POLL_MS = 5;

const stopping = new AbortController();
process.once("SIGTERM", () => stopping.abort());
const { config, secrets } = loadConfig(process.env);
if (config.runtime.driver !== "azure") throw new Error("this daemon is for Azure");
const { azure } = config.runtime;
const log = createLog(config.logLevel);
const store = await openStore(config, secrets, log);
const runtimes = openAzureDriver({
  ...store,
  azure,
  stamps: await readStamps(azure),
  credential: new DefaultAzureCredential(),
  pollMs: POLL_MS,
});
await runDaemon({ config, secrets, log, roles: ROLES, runtimes }, stopping.signal);
await store.close();
