import { pause } from "../platform/pause.ts";
import type { ProviderId } from "../platform/ids.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import { type Renewal, renewConnection } from "./refresh.ts";
import * as store from "./store.ts";
import type { DuePlace } from "./store.ts";

export type SweepPace = {
  /** Over all providers. A Key Vault takes 30 new versions a second, and connections are made and renewed on demand, too. */
  startsPerSecond: number;
  /** Nothing is begun after so long: what is under way then ends before the next sweep begins. */
  forMs: number;
  /** Of one provider: whose answers take long does not hold up the others. */
  atOnce: number;
};

const PACE: SweepPace = { startsPerSecond: 25, forMs: 40_000, atOnce: 16 };
const PAGE = 200;

/** `untouched`: others were at it, or nothing could be tried. */
export type SweepCounts = Record<"renewed" | "failed" | "ended" | "untouched", number> & {
  /** Whether all that was due had its turn. */
  isComplete: boolean;
};

/**
 * Renews what is due, the longest due first, each once. A provider that refuses our client is tried with one connection. One sweep at a
 * time, by its schedule; should two meet, the leases see to it that nothing is renewed twice.
 */
export async function sweepConnections(
  ctx: IntegrationsContext,
  signal: AbortSignal,
  pace: SweepPace = PACE,
): Promise<SweepCounts> {
  const counts: SweepCounts = { renewed: 0, failed: 0, ended: 0, untouched: 0, isComplete: true };
  const mayBegin = createMetronome(pace, signal);
  await store.forgetIdleTroubles(ctx.db);
  const troubles = new Map((await store.listClientTroubles(ctx.db)).map((trouble) => [trouble.provider, trouble]));
  const now = ctx.clock.now();
  const swept = ctx.providers.list().map(async ({ definition: { id }, client }) => {
    if (client === undefined) return;
    const trouble = troubles.get(id);
    if (trouble !== undefined && trouble.probeAt > now) return;
    const due = trouble === undefined ? listAllDue(ctx, id, now) : listFirstDue(ctx, id, now);
    await sweepProvider(ctx, id, { due, mayBegin, counts, atOnce: pace.atOnce });
  });
  await Promise.all(swept);
  return counts;
}

type Turn = {
  due: AsyncGenerator<DuePlace>;
  mayBegin: () => Promise<boolean>;
  counts: SweepCounts;
  atOnce: number;
};

async function sweepProvider(ctx: IntegrationsContext, provider: ProviderId, turn: Turn): Promise<void> {
  let isOver = false;
  const renewOneByOne = async (): Promise<void> => {
    while (!isOver) {
      const { value: place, done } = await turn.due.next();
      if (done === true) return;
      if (!(await turn.mayBegin())) {
        turn.counts.isComplete = false;
        return;
      }
      const renewal = await renewOne(ctx, { tenantId: place.tenantId, provider });
      turn.counts[resultOf(renewal)] += 1;
      // None of the others would be tried either.
      if (renewal?.kind === "unavailable" && renewal.code === "client_refused") isOver = true;
    }
  };
  await Promise.all(Array.from({ length: turn.atOnce }, renewOneByOne));
}

/** Undefined: something is wrong here, which is no reason to leave out the others. */
async function renewOne(ctx: IntegrationsContext, key: store.ConnectionKey): Promise<Renewal | undefined> {
  try {
    return await renewConnection(ctx, key, { askedBy: "sweep", minRemainingMs: 0 });
  } catch (error) {
    ctx.log.error({ error, ...key }, "a connection could not be renewed, the next sweep tries again");
    return undefined;
  }
}

function resultOf(renewal: Renewal | undefined): "renewed" | "failed" | "ended" | "untouched" {
  switch (renewal?.kind) {
    case "renewed":
      return "renewed";
    case "gone":
      return "ended";
    case "present":
      return "untouched";
    case "unavailable":
      return ["client_refused", "connection_busy"].includes(renewal.code) ? "untouched" : "failed";
    case undefined:
      return "failed";
  }
}

async function* listAllDue({ db }: IntegrationsContext, provider: ProviderId, now: Date): AsyncGenerator<DuePlace> {
  for (let after: DuePlace | undefined; ;) {
    const page = await store.listDue(db, { provider, now, after, limit: PAGE });
    yield* page;
    if (page.length < PAGE) return;
    after = page.at(-1);
  }
}

async function* listFirstDue({ db }: IntegrationsContext, provider: ProviderId, now: Date): AsyncGenerator<DuePlace> {
  yield* await store.listDue(db, { provider, now, after: undefined, limit: 1 });
}

/** @returns what waits for the next start; false when there is none any more. */
function createMetronome({ startsPerSecond, forMs }: SweepPace, signal: AbortSignal): () => Promise<boolean> {
  const end = performance.now() + forMs;
  let next = performance.now();
  return async () => {
    const now = performance.now();
    const at = Math.max(next, now);
    if (at >= end || signal.aborted) return false;
    next = at + 1_000 / startsPerSecond;
    if (at > now) await pause(at - now, signal);
    return !signal.aborted;
  };
}
