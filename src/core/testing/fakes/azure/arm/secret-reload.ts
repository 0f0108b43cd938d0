import { resolveSecrets } from "./app-secrets.ts";
import { Refusal } from "./refusal.ts";
import { startReplica, stopReplica } from "./replicas.ts";
import type { App, World } from "./world.ts";

/**
 * What Container Apps does every half hour or so: reads the secrets of the Key Vault again whose address names no version, and starts
 * active revisions anew where one has changed. What can't be read stays as it was.
 */
export function reloadSecrets(world: World): void {
  for (const app of world.apps.values()) {
    const values = read(world, app);
    if (values === undefined || [...values].every(([name, value]) => app.secrets.get(name) === value)) continue;
    app.secrets = values;
    for (const revision of app.revisions.values()) {
      if (!revision.active) continue;
      stopReplica(world, revision);
      startReplica(world, app, revision);
    }
  }
}

function read(world: World, app: App): Map<string, string> | undefined {
  try {
    return resolveSecrets(world, app.configuration.secrets ?? [], app.identities);
  } catch (error) {
    if (error instanceof Refusal) return undefined;
    throw error;
  }
}
