import { canonical } from "./canonical.ts";
import { deactivate, startReplica } from "./replicas.ts";
import { addRevision, planRevision } from "./revisions.ts";
import type { Configuration, Template } from "./schema.ts";
import type { World } from "./world.ts";

/** What somebody may change of an app. */
export type Tampering = {
  tags: Record<string, string>;
  configuration: Configuration;
  template: Template;
  /** Revisions, which may be switched on and off. */
  revisions: { name: string; active: boolean }[];
};

/** Changes an app at once, by somebody else's hand. A changed template makes a new revision, whose container starts as well. */
export function tamperWith(world: World, appName: string, change: (app: Tampering) => void): void {
  const app = [...world.apps.values()].find(({ name }) => name === appName);
  if (app === undefined) throw new Error(`There is no app ${appName}`);
  const { tags, configuration, template } = app;
  const revisions = [...app.revisions.values()].map(({ name, active }) => ({ name, active }));
  const changed = structuredClone({ tags, configuration, template, revisions });
  change(changed);
  for (const { name, active } of changed.revisions) {
    const revision = app.revisions.get(name);
    if (revision === undefined || revision.active === active) continue;
    if (active) {
      revision.active = true;
      startReplica(world, app, revision, true);
    } else deactivate(world, revision);
  }
  const isNewTemplate = canonical(template) !== canonical(changed.template);
  app.tags = changed.tags;
  app.configuration = changed.configuration;
  if (!isNewTemplate) return;
  const { revisionSuffix: _suffix, ...rest } = changed.template;
  const plan = planRevision(app, rest);
  app.template = changed.template.revisionSuffix === template.revisionSuffix ? rest : changed.template;
  if (plan.kind === "new") addRevision(world, app, plan.name, { byOthers: true }).provisioningState = "Provisioned";
}
