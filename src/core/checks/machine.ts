import { type Check, failed, ok, warning } from "../platform/check.ts";
import type { Config } from "../platform/config.ts";
import { makeDataDir } from "../platform/data-dir.ts";
import { isLoopback } from "../platform/loopback-url.ts";

/** The configuration, which was read by now, and the folder that it names. */
export function machineChecks(config: Config): Check[] {
  return [
    { name: "configuration", run: async () => checkAddresses(config) },
    {
      name: "data folder",
      async run() {
        await makeDataDir(config.dataDir);
        return ok(`${config.dataDir} can be written`);
      },
    },
  ];
}

function checkAddresses({ http, runtime, vault, database, redisUrl }: Config) {
  const parts = [`runtimes ${runtime.driver}`, `vault ${vault.kind}`, `database ${database.kind}`];
  const read = [...parts, `redis ${redisUrl === undefined ? "none" : "url"}`].join(", ");
  if (runtime.driver === "azure" && http.internalUrl === undefined)
    return failed(
      `${read}; runtimes on Azure can't reach the internal listener at ${http.internalListen.host}`,
      "Set OPENCLAW_INTERNAL_URL to where they reach the gateway, e.g. https://gateway.internal.example",
    );
  const https = "Set OPENCLAW_PUBLIC_URL, e.g. https://bot.example.com";
  if (http.publicUrl === undefined)
    return warning(`${read}; nobody outside is told where the public listener is`, https);
  const url = new URL(http.publicUrl);
  if (url.protocol === "https:" || isLoopback(url)) return ok(read);
  const risk = "whoever is in between can read and change what people do there, and providers refuse such an address";
  return warning(`${read}; OPENCLAW_PUBLIC_URL leads there without https: ${risk}`, https);
}
