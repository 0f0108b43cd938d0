import path from "node:path";
import { ConfigError } from "../../../platform/errors.ts";
import type { RuntimeSpec } from "../runtime-driver.ts";
import type { TenantPaths } from "./tenant-folder.ts";

/** Leaves room for what a process needs beside its heap. */
const HEAP_SHARE = 0.75;

/**
 * All that a runtime gets to see of our environment, which is nothing: a fixed list, the spec's own values, and its secrets.
 * @throws ConfigError naming every secret that the vault lacks; none is ever passed as an empty value (F95).
 */
export async function runtimeEnvironment(
  spec: RuntimeSpec,
  paths: TenantPaths,
  options: { node: string; vault: { get(name: string): Promise<string | undefined> } },
): Promise<Record<string, string>> {
  return {
    LANG: "C.UTF-8",
    TZ: "UTC",
    NODE_OPTIONS: `--max-old-space-size=${Math.floor(spec.memoryMiB * HEAP_SHARE)}`,
    ...spec.env,
    ...(await readSecrets(spec, options.vault)),
    PATH: `${path.dirname(options.node)}:/usr/local/bin:/usr/bin:/bin`,
    HOME: paths.home,
    TMPDIR: paths.tmp,
    NODE_COMPILE_CACHE: paths.cache,
    OPENCLAW_CONFIG_PATH: paths.config,
    OPENCLAW_STATE_DIR: paths.state,
    OPENCLAW_CONFIG_READONLY: "1",
    OPENCLAW_DISABLE_BONJOUR: "1",
    OPENCLAW_NO_AUTO_UPDATE: "1",
    OPENCLAW_OFFLINE: "1",
    DO_NOT_TRACK: "1",
  };
}

async function readSecrets(
  spec: RuntimeSpec,
  vault: { get(name: string): Promise<string | undefined> },
): Promise<Record<string, string>> {
  const secrets: Record<string, string> = {};
  const problems: string[] = [];
  for (const [variable, name] of Object.entries(spec.secrets)) {
    const value = await vault.get(name);
    if (value === undefined || value === "")
      problems.push(`The vault has no secret ${name}, which the runtime of ${spec.slug} needs as ${variable}.`);
    else secrets[variable] = value;
  }
  if (problems.length > 0) throw new ConfigError("runtime_secret_missing", problems);
  return secrets;
}
