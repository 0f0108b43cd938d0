/**
 * A whole daemon whose runtimes are those of a load test: `node scripts/chaos/daemon.ts <file>`, where the file maps
 * tenant ids to addresses. Only the driver differs from `openclaw daemon`, so that a hundred runtimes cost no process each.
 */
import { readFileSync } from "node:fs";
import { createMemoryDriver } from "../../src/core/adapters/runtime/memory.ts";
import { loadConfig } from "../../src/core/platform/config.ts";
import { createLog } from "../../src/core/platform/log.ts";
import { ROLES, runDaemon } from "../../src/daemon/daemon.ts";

const addresses = new Map<string, string>(Object.entries(JSON.parse(readFileSync(process.argv[2] ?? "", "utf8"))));
const stopping = new AbortController();
process.once("SIGTERM", () => stopping.abort());
// Ends with whoever started it, even when that is killed.
process.once("disconnect", () => process.exit(137));
process.channel?.unref();

const { config, secrets } = loadConfig(process.env);
const runtimes = createMemoryDriver({
  address(tenantId) {
    const address = addresses.get(tenantId);
    if (address === undefined) throw new Error(`there is no runtime for tenant ${tenantId}`);
    return address;
  },
});
await runDaemon({ config, secrets, log: createLog(config.logLevel), roles: ROLES, runtimes }, stopping.signal);
