import type { ContainerApp, Secret } from "@azure/arm-appcontainers";
import type { Errand, StampClient } from "./steps.ts";

/**
 * Has Azure read the secrets that an app is to have while it still runs with those that it has: the right to read new ones comes into
 * force within minutes (F50), for which a runtime that was stopped would be missed. No revision is made of it, and what runs keeps the
 * values that it was started with.
 * @throws DeferredError until Azure can read all of them.
 */
export async function offerSecrets(
  client: StampClient,
  errand: Errand,
  name: string,
  { app, wanted }: { app: ContainerApp; wanted: ContainerApp },
): Promise<void> {
  const secrets = wanted.configuration?.secrets ?? [];
  if (hasSecrets(app, wanted)) return;
  const { stamp, arm, pollMs } = client;
  await client.step(errand, "secrets.offer", `The new secrets of the container app ${name} were refused`, async () => {
    const { containerApps } = await arm.apps();
    // A list is taken whole, and no other call tells values: what runs needs its own configuration on.
    const { value: had } = await containerApps.listSecrets(stamp.resourceGroup, name);
    const configuration = { secrets: [...secrets, ...configurationsAmong(had, secrets)] };
    const options = { updateIntervalInMs: pollMs };
    await containerApps
      .update(stamp.resourceGroup, name, { location: stamp.location, configuration }, options)
      .pollUntilDone();
  });
}

/** Whether the app has been given every secret of the vault that it is to have, and no other. */
function hasSecrets(app: ContainerApp, wanted: ContainerApp): boolean {
  const [had, needed] = [vaultUrls(app), vaultUrls(wanted)];
  return had.size === needed.size && [...needed].every((url) => had.has(url));
}

function vaultUrls({ configuration }: ContainerApp): Set<string> {
  const urls = (configuration?.secrets ?? []).map(({ keyVaultUrl }) => keyVaultUrl?.toLowerCase());
  return new Set(urls.filter((url) => url !== undefined));
}

/** Those whose values lie in the app itself, other than the wanted ones. */
function configurationsAmong(had: readonly Secret[], wanted: readonly Secret[]): Secret[] {
  const names = new Set(wanted.map(({ name }) => name));
  return had.flatMap(({ name, value, keyVaultUrl }) =>
    name === undefined || names.has(name) || !value || keyVaultUrl ? [] : [{ name, value }],
  );
}
