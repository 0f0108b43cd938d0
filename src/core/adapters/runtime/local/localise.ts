import type { RuntimeConfigFile } from "../runtime-driver.ts";

/**
 * The configuration for this machine: everything on loopback, on the runtime's own ports, workspace and log in its own folder.
 * Unless told, OpenClaw writes its log below /tmp, into one folder for all.
 */
export function localiseConfig(
  config: RuntimeConfigFile,
  place: { gatewayPort: number; webhookPort: number; workspace: string; logFile: string },
): RuntimeConfigFile {
  return merge(config, {
    gateway: { bind: "loopback", port: place.gatewayPort },
    agents: { defaults: { workspace: place.workspace } },
    logging: { file: place.logFile },
    channels: { telegram: { webhookHost: "127.0.0.1", webhookPort: place.webhookPort } },
  });
}

function merge(base: RuntimeConfigFile, changes: RuntimeConfigFile): RuntimeConfigFile {
  const merged = Object.entries(changes).map(([key, change]) => {
    const old = base[key];
    return [key, isObject(change) ? merge(isObject(old) ? old : {}, change) : change];
  });
  return { ...base, ...Object.fromEntries(merged) };
}

function isObject(value: unknown): value is RuntimeConfigFile {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
