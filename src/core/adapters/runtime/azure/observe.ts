import type { ContainerApp, Revision } from "@azure/arm-appcontainers";
import type { Dispatcher } from "undici";
import type { TenantId } from "../../../platform/ids.ts";
import { errorMessage } from "../../../platform/errors.ts";
import { exchange } from "../../../platform/exchange.ts";
import { absentRuntime, type ObservedRuntime, type RuntimeSpec } from "../runtime-driver.ts";
import { isMadeOf, isOurSuffix } from "./names.ts";

const PROBE_MS = 5_000;

/** What was looked at of one runtime. */
export type Sight = {
  tenantId: TenantId;
  /** What it was told to be; undefined when nobody remembers. */
  spec: RuntimeSpec | undefined;
  app: ContainerApp;
  /** Undefined when only a list of apps was read, which does not hold them. */
  revisions: readonly Revision[] | undefined;
  /** In what the app differs from `spec`. */
  drift: readonly string[];
};

/** Where the router reaches it: the ingress, never the container's own port (F1), and without a redirect on the way (F2). */
export function addressOf(app: ContainerApp): string | undefined {
  const fqdn = app.configuration?.ingress?.fqdn;
  return fqdn === undefined || fqdn === "" ? undefined : `https://${fqdn}`;
}

export function latestOf({ app, revisions }: Pick<Sight, "app" | "revisions">): Revision | undefined {
  return revisions?.find(({ name }) => isSame(name, app.latestRevisionName));
}

/**
 * Whether any revision of the app is active. A list of apps tells it by `runningStatus` alone, of which no source says what it is
 * without an active revision; `Stopped` is taken for that.
 */
export function isActive({ app, revisions }: Pick<Sight, "app" | "revisions">): boolean {
  return revisions === undefined
    ? app.runningStatus !== "Stopped"
    : revisions.some(({ active, replicas }) => active === true || (replicas ?? 0) > 0);
}

/** Whether the app is, to the letter, what its spec says. */
export function isInForce({ app, spec, drift }: Pick<Sight, "app" | "spec" | "drift">): boolean {
  return spec !== undefined && drift.length === 0 && isMadeOf(spec.hash, app.template?.revisionSuffix);
}

/** What is made of an older spec differs because we say so, and not by somebody else's hand. */
function isByOthers({ app, spec }: Sight): boolean {
  const suffix = app.template?.revisionSuffix;
  return spec !== undefined && (isMadeOf(spec.hash, suffix) || !isOurSuffix(suffix));
}

export function isReady(app: ContainerApp): boolean {
  return app.latestRevisionName !== undefined && isSame(app.latestReadyRevisionName, app.latestRevisionName);
}

/** What Azure says of it, without asking the runtime itself: `running` here only means that it is worth asking. */
export function observeApp(sight: Sight): ObservedRuntime {
  const { tenantId, spec, app, drift } = sight;
  const base = { ...absentRuntime(tenantId), specHash: spec?.hash ?? "" };
  if (!isActive(sight)) return { ...base, state: "asleep" };
  const address = addressOf(app);
  const seen: ObservedRuntime = {
    ...base,
    state: "starting",
    address,
    image: app.template?.containers?.[0]?.image ?? "",
    specHash: isInForce(sight) ? base.specHash : "",
    drift: isByOthers(sight) ? drift : [],
  };
  const latest = latestOf(sight);
  if (app.provisioningState === "Failed" || app.provisioningState === "Canceled")
    return { ...seen, reason: `Azure ended its last change as ${app.provisioningState}` };
  if (app.provisioningState === "InProgress") return { ...seen, reason: "Azure is still at work on it" };
  if (latest?.runningState === "Failed" || latest?.provisioningState === "Failed")
    return {
      ...seen,
      state: "failed",
      reason: latest.provisioningError ?? "its container does not start; see its log",
    };
  if (address === undefined) return { ...seen, reason: "Azure has not told its address yet" };
  if (!isReady(app)) return { ...seen, reason: `the revision ${app.latestRevisionName ?? ""} is not ready yet` };
  return { ...seen, state: "running" };
}

/** Why the webhook listener isn't healthy, asked by the way that the router takes; undefined when it is (F47). */
export async function probe(dispatcher: Dispatcher, address: string): Promise<string | undefined> {
  try {
    const { status, body } = await exchange(dispatcher, {
      origin: address,
      path: "/healthz",
      method: "GET",
      headersTimeout: PROBE_MS,
      bodyTimeout: PROBE_MS,
    });
    if (status === 200 && body.toString().trim() === "ok") return undefined;
    return `its health check answers with status ${status}`;
  } catch (error) {
    return `its health check does not answer: ${errorMessage(error)}`;
  }
}

function isSame(one: string | undefined, other: string | undefined): boolean {
  return one?.toLowerCase() === other?.toLowerCase();
}
