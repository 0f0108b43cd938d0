import type { ContainerApp, Revision } from "@azure/arm-appcontainers";
import { DeferredError } from "../../../platform/errors.ts";
import type { RuntimeSpec } from "../runtime-driver.ts";
import { listRevisions, putApp, startRevision, stopRevisions } from "./app.ts";
import { containerAppOf } from "./container-app.ts";
import { driftOf, isOfTheTemplate } from "./drift.ts";
import { ensureIdentity, ensureRoles, takeRoles } from "./identity.ts";
import { isMadeOf, runtimeName, suffixOf } from "./names.ts";
import { isActive, isInForce, isReady, latestOf } from "./observe.ts";
import type { Records } from "./records.ts";
import { offerSecrets } from "./secret-offer.ts";
import { ensureStateFolder, type JobTurn } from "./state-share.ts";
import type { Errand, StampClient } from "./steps.ts";

export type Application = {
  client: StampClient;
  records: Records;
  installation: string;
  /** How many runtimes fit on the stamp. */
  room: number;
  /** `grantOf` the spec for which its rights were settled last. */
  granted: string | undefined;
  inTurn: JobTurn;
  /** What all runtimes of the stamp have in common is there once this resolves. */
  prepare: () => Promise<void>;
};

/** What is there once it is done, as far as Azure has told of its own accord: whoever observes it need not ask again. */
export type Applied = { app: ContainerApp; revisions: readonly Revision[] | undefined };

/**
 * Makes the app what `spec` says, and has it run: identity, its rights, the folder of its state, then the app, each only where it is
 * missing. When it returns, Azure has taken it over; it need not be healthy yet.
 */
export async function applySpec(
  application: Application,
  asked: Errand,
  spec: RuntimeSpec,
  app: ContainerApp | undefined,
): Promise<Applied> {
  const { client, installation } = application;
  const isRunning = app === undefined || isActive({ app, revisions: undefined });
  const errand = isRunning ? asked : whileStopped(asked);
  const drift = app === undefined ? [] : driftFrom({ client, installation }, spec, app);
  if (app === undefined || !isInForce({ app, spec, drift }) || app.provisioningState !== "Succeeded") {
    if (app === undefined) await requireRoom(application);
    await application.prepare();
    await prepareAccess(application, errand, spec, app);
    return replace(application, errand, spec, app, drift);
  }
  const name = runtimeName(spec.tenantId);
  const revisions = await listRevisions(client, errand, name);
  const latest = latestOf({ app, revisions });
  // Lists are stale at times (F38): none must be stopped for that.
  if (latest === undefined) throw staleList(name);
  // Somebody may have started an old one by hand, beside ours.
  await stopRevisions(client, errand, name, others(revisions, latest));
  if (latest.active !== true) {
    await startRevision(client, errand, name, latest.name ?? "");
    return { app, revisions: [{ ...latest, active: true }] };
  }
  // What keeps it from starting may be a right that somebody has taken away.
  if (!isReady(app)) await settleAccess(application, errand, spec);
  return { app, revisions };
}

/** What a new revision needs to start. One that is ready and reads the same secrets shows that it may. */
async function prepareAccess(
  application: Application,
  errand: Errand,
  spec: RuntimeSpec,
  app: ContainerApp | undefined,
): Promise<void> {
  const { client, installation } = application;
  if (app !== undefined && isReady(app) && application.granted === grantOf(spec)) return;
  await settleAccess(application, errand, spec, async () => {
    if (app === undefined) return ensureStateFolder(application, errand, spec.tenantId);
    if (!isActive({ app, revisions: undefined })) return;
    const wanted = containerAppOf(spec, client.stamp, installation, "");
    await offerSecrets(client, errand, runtimeName(spec.tenantId), { app, wanted });
  });
}

/** All that says which secrets a runtime reads. */
export function grantOf({ secrets }: RuntimeSpec): string {
  return Object.values(secrets).toSorted().join(" ");
}

/** The runtime's identity may read its own secrets and, once `whatNeedsThem` is done, no other. */
export async function settleAccess(
  application: Pick<Application, "client" | "records" | "installation">,
  errand: Errand,
  spec: RuntimeSpec,
  whatNeedsThem: () => Promise<void> = async () => undefined,
): Promise<void> {
  const { client, records, installation } = application;
  const { tenantId } = spec;
  const principalId = await ensureIdentity(client, errand, { tenantId, installation });
  await records.change(tenantId, { principalId });
  const surplus = await ensureRoles(client, errand, principalId, Object.values(spec.secrets));
  await whatNeedsThem();
  await takeRoles(client, errand, surplus);
  await records.change(tenantId, { granted: grantOf(spec) });
}

function staleList(name: string): DeferredError {
  return new DeferredError("revisions_stale", `Azure's list of revisions of ${name} lacks the latest one.`, {
    service: "azure",
    afterMs: 5_000,
  });
}

/** Beyond it Azure would refuse the rights that a runtime needs, in the middle of making it. */
async function requireRoom({ client: { stamp }, records, room }: Application): Promise<void> {
  const runtimes = await records.count(stamp.id);
  if (runtimes <= room) return;
  throw new DeferredError(
    "stamp_full",
    `The stamp ${stamp.id} is full (${runtimes - 1} of ${room} runtimes). Add a stamp to the file of OPENCLAW_STAMPS_FILE, or remove tenants.`,
    { service: "azure", afterMs: 60_000 },
  );
}

function others(revisions: readonly Revision[], latest: Revision | undefined): Revision[] {
  return revisions.filter((revision) => revision !== latest);
}

/** The old revision is gone with its last replica before the new one is made. */
async function replace(
  { client, records, installation }: Application,
  errand: Errand,
  spec: RuntimeSpec,
  app: ContainerApp | undefined,
  drift: readonly string[],
): Promise<Applied> {
  const name = runtimeName(spec.tenantId);
  const revisions = app === undefined ? [] : await listRevisions(client, errand, name);
  const suffix = app?.template?.revisionSuffix;
  if (app !== undefined && suffix !== undefined && isMadeOf(spec.hash, suffix) && !drift.some(isOfTheTemplate)) {
    // Of what lies outside the template, such as ingress, no new revision is made.
    const latest = latestOf({ app, revisions });
    await stopRevisions(client, errand, name, others(revisions, latest));
    const made = await putApp(client, errand, name, containerAppOf(spec, client.stamp, installation, suffix));
    if (latest?.active === false) await startRevision(client, errand, name, latest.name ?? "");
    return { app: made, revisions: latest === undefined ? undefined : [{ ...latest, active: true }] };
  }
  await stopRevisions(client, errand, name, revisions);
  const next = suffixOf(spec.hash, await records.nextRevision(spec.tenantId));
  const body = containerAppOf(spec, client.stamp, installation, next);
  const made = await putApp(client, whileStopped(errand), name, body);
  return { app: made, revisions: undefined };
}

/** Until the next revision runs there is nobody to answer: that is not left for when nobody else needs Azure. */
function whileStopped(errand: Errand): Errand {
  return errand.urgency === "rollout" ? { ...errand, urgency: "repair" } : errand;
}

/** In what an app differs from what it was told to be. */
export function driftFrom(
  application: Pick<Application, "client" | "installation">,
  spec: RuntimeSpec,
  app: ContainerApp,
) {
  return driftOf(containerAppOf(spec, application.client.stamp, application.installation, ""), app);
}
