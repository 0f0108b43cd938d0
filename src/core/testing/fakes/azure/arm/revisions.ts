import { randomBytes } from "node:crypto";
import { canonical } from "./canonical.ts";
import { nowText } from "./clock.ts";
import { invalidFields, Refusal } from "./refusal.ts";
import { startReplica } from "./replicas.ts";
import type { Template } from "./schema.ts";
import type { App, Revision, World } from "./world.ts";

/** A revision's name is a DNS label. */
const MAX_NAME = 63;
const DEFAULT_MAX_INACTIVE = 100;

export type RevisionPlan = { kind: "none" } | { kind: "new"; name: string } | { kind: "taken"; suffix: string };

/**
 * What a template makes of an app's revisions: nothing when it is the latest one's, else a new one. A suffix can't be used again, not
 * even with the template that it once had.
 * @throws Refusal for a suffix that can't be part of a name.
 */
export function planRevision(
  app: Pick<App, "name" | "revisions" | "latestRevisionName">,
  template: Template,
): RevisionPlan {
  const latest = app.revisions.get(app.latestRevisionName);
  const suffix = template.revisionSuffix ?? "";
  if (latest !== undefined && sameTemplate(latest.template, template)) return { kind: "none" };
  if (suffix === "") return { kind: "new", name: `${app.name}--${randomSuffix()}` };
  const name = `${app.name}--${suffix}`;
  if (!/^[a-z0-9](?!.*--)[a-z0-9-]*$/.test(suffix) || suffix.endsWith("-"))
    throw invalidSuffix(suffix, "it must consist of lower case alphanumeric characters or '-'");
  if (name.length > MAX_NAME)
    throw invalidSuffix(suffix, `revision name ${name} is longer than ${MAX_NAME} characters`);
  return app.revisions.has(name) ? { kind: "taken", suffix } : { kind: "new", name };
}

/** No suffix means any. */
function sameTemplate(latest: Template, { revisionSuffix, ...wanted }: Template): boolean {
  const { revisionSuffix: known, ...rest } = latest;
  const isOther = revisionSuffix !== undefined && revisionSuffix !== "" && revisionSuffix !== known;
  return !isOther && canonical(rest) === canonical(wanted);
}

function randomSuffix(): string {
  return BigInt(`0x${randomBytes(8).toString("hex")}`)
    .toString(36)
    .padStart(7, "0")
    .slice(0, 7);
}

export function takenSuffix(suffix: string): Refusal {
  return invalidSuffix(suffix, `revision with suffix ${suffix} already exists.`);
}

function invalidSuffix(suffix: string, problem: string): Refusal {
  return invalidFields([{ field: "template.revisionsuffix", value: suffix, problem }]);
}

/** Makes the revision, which is active, with a container that starts, unless the operation that makes it is to fail. */
export function addRevision(
  world: World,
  app: App,
  name: string,
  { isDoomed = false, byOthers = false }: { isDoomed?: boolean; byOthers?: boolean } = {},
): Revision {
  const revision: Revision = {
    name,
    active: true,
    createdTime: nowText(),
    template: app.template,
    provisioningState: "Provisioning",
    failure: isDoomed ? "Provisioning failed" : undefined,
    container: undefined,
    ending: [],
    draining: 0,
  };
  app.revisions.set(name, revision);
  app.latestRevisionName = name;
  if (!isDoomed) startReplica(world, app, revision, byOthers);
  dropOldest(app);
  return revision;
}

function dropOldest(app: App): void {
  const inactive = [...app.revisions.values()].filter(({ active }) => !active);
  const surplus = inactive.length - (app.configuration.maxInactiveRevisions ?? DEFAULT_MAX_INACTIVE);
  for (const { name } of inactive.slice(0, Math.max(0, surplus))) app.revisions.delete(name);
}
