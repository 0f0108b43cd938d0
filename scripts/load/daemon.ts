/**
 * A whole daemon whose runtimes are those of a load test: `node scripts/load/daemon.ts <roles> [<file>]`, where the file
 * maps tenant ids to addresses. Only the driver and the pace differ from `openclaw daemon`: a thousand runtimes cost no
 * process each, and Telegram's limits don't limit what is measured.
 */
import { readFileSync } from "node:fs";
import { createMemoryDriver } from "../../src/core/adapters/runtime/memory.ts";
import { createPacer } from "../../src/core/adapters/telegram/pacer.ts";
import { createMemorySlots } from "../../src/core/adapters/telegram/send-slots.ts";
import { loadConfig } from "../../src/core/platform/config.ts";
import { createLog } from "../../src/core/platform/log.ts";
import { runDaemon } from "../../src/daemon/daemon.ts";
import { ROLES } from "../../src/daemon/parts.ts";

const [roles = ROLES.join(), file] = process.argv.slice(2);
const addresses = new Map<string, string>(Object.entries(file ? JSON.parse(readFileSync(file, "utf8")) : {}));
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
// Paced as ever, at a pace that is never reached.
const slots = createMemorySlots(async () => 1);
const pacer = createPacer({ slots, sendsPerSecond: 1e6, chatIntervalMs: 0.001, divisor: async () => 1 });
await runDaemon(
  {
    pacer,
    config,
    secrets,
    log: createLog(config.logLevel),
    roles: ROLES.filter((role) => roles.split(",").includes(role)),
    runtimes,
  },
  stopping.signal,
);
