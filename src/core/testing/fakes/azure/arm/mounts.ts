import { existsSync } from "node:fs";
import path from "node:path";
import type { Mount } from "./container-host.ts";
import { keyOf } from "./resource-id.ts";
import type { Template, TemplateContainer } from "./schema.ts";
import type { Share, World } from "./world.ts";

/** Of an environment storage: `/account/share`, as NFS names what it exports. */
const EXPORT = /^\/([^/]+)\/([^/]+)$/;

export function shareOfStorage(world: World, environmentId: string, storageName: string): Share | undefined {
  const storage = world.storages.get(keyOf(`${environmentId}/storages/${storageName}`));
  const [, account, name] = EXPORT.exec(storage?.properties.nfsAzureFile?.shareName ?? "") ?? [];
  return [...world.shares.values()].find(
    (share) => share.account === account && share.name === name && share.deleting === undefined,
  );
}

/** What a container finds mounted; a text instead when something of it isn't there. */
export function mountsOf(
  world: World,
  {
    environmentId,
    volumes = [],
    container,
    secrets,
  }: {
    environmentId: string;
    volumes: Template["volumes"];
    container: TemplateContainer;
    secrets: ReadonlyMap<string, string>;
  },
): Mount[] | string {
  const mounts: Mount[] = [];
  for (const { volumeName, mountPath = "", subPath = "" } of container.volumeMounts ?? []) {
    const volume = volumes.find(({ name }) => name === volumeName);
    switch (volume?.storageType) {
      case "Secret": {
        const items = volume.secrets ?? [...secrets.keys()].map((secretRef) => ({ secretRef, path: undefined }));
        const files = items.map(({ secretRef = "", path: file }) => [file ?? secretRef, secrets.get(secretRef) ?? ""]);
        mounts.push({ path: mountPath, files: Object.fromEntries(files) });
        break;
      }
      case "NfsAzureFile": {
        const share = shareOfStorage(world, environmentId, volume.storageName ?? "");
        if (share === undefined) return `the share of storage ${volume.storageName} can't be mounted`;
        if (subPath.startsWith("/")) return `subPath ${subPath} must be relative`;
        const folder = path.join(share.folder, subPath);
        if (!existsSync(folder)) return `subPath ${subPath} doesn't exist on the share ${share.name}`;
        mounts.push({ path: mountPath, folder });
        break;
      }
      default:
        mounts.push({ path: mountPath, empty: true });
    }
  }
  return mounts;
}

/** A container's environment, secrets resolved. */
export function environmentOf(
  { env = [] }: Pick<TemplateContainer, "env">,
  secrets: ReadonlyMap<string, string>,
): Record<string, string> {
  return Object.fromEntries(
    env.map(({ name, value, secretRef }) => [
      name,
      secretRef === undefined ? (value ?? "") : (secrets.get(secretRef) ?? ""),
    ]),
  );
}
