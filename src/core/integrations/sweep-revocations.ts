import { endGrant, type Ended } from "./end-grant.ts";
import { listGrantsDue, takeNotedGrant } from "./grant-store.ts";
import type { IntegrationsContext } from "./integrations-context.ts";

/** One run of the sweep, of each provider; the rest is for the next, which begins a minute later. */
const AT_ONCE = 500;
const SWEEP_MS = 45_000;

type Counts = { ended: number; pending: number };

/** Goes on with grants that are to be ended, as far as they are due. @returns how many were, and how many wait. */
export async function sweepRevocations(ctx: IntegrationsContext, signal: AbortSignal): Promise<Counts> {
  const counts = { ended: 0, pending: 0 };
  const due = await listGrantsDue(ctx.db, ctx.clock.now(), AT_ONCE);
  // A provider that is down costs its patience with each, and holds up no other.
  const providers = Map.groupBy(due, ({ provider }) => provider);
  await Promise.all([...providers.values()].map((grants) => endAll(ctx, grants, counts, signal)));
  return counts;
}

async function endAll(
  ctx: IntegrationsContext,
  grants: readonly { grantId: string }[],
  counts: Counts,
  signal: AbortSignal,
): Promise<void> {
  const deadline = performance.now() + SWEEP_MS;
  for (const { grantId } of grants) {
    if (signal.aborted || performance.now() >= deadline) return;
    const ended = await tryToEnd(ctx, grantId, signal);
    if (ended !== undefined) counts[ended.revocation === "pending" ? "pending" : "ended"] += 1;
  }
}

/**
 * Ends one that is noted, if it is due. One that fails must not keep others from their turn; its own comes again.
 * @returns undefined when it is not due, or gone.
 */
export async function tryToEnd(
  ctx: IntegrationsContext,
  grantId: string,
  signal: AbortSignal,
): Promise<Ended | undefined> {
  try {
    const now = ctx.clock.now();
    const grant = await takeNotedGrant(ctx.db, grantId, { now, dueBy: now });
    return grant && (await endGrant(ctx, grant, { askedBy: "sweep", signal }));
  } catch (error) {
    ctx.log.warn({ error, grantId }, "a grant that is over could not be ended, will be tried again");
    return { revocation: "pending" };
  }
}
