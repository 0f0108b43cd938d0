import { type Selectable, sql } from "kysely";
import { addMs, type Clock } from "../../platform/clock.ts";
import type { Db } from "../../platform/db.ts";
import { DeferredError, errorMessage } from "../../platform/errors.ts";
import type { TenantId } from "../../platform/ids.ts";
import type { Log } from "../../platform/log.ts";
import { toPlainText } from "../../platform/plain-text.ts";
import { pruneRows } from "../../platform/prune.ts";
import { redactText } from "../../platform/redact.ts";
import type { RuntimeSteps } from "../../platform/schema.ts";
import type { DriverCall } from "./runtime-driver.ts";

const DAY_MS = 86_400_000;
const KEEP_MS = 90 * DAY_MS;
/** A row of what is put off again and again begins anew after so long, so that it also grows old. */
const FOLD_MS = 3_600_000;
const LONGEST_DETAIL = 500;

/** Left out for what all runtimes of a stamp have in common. */
export type StepName = { tenantId?: TenantId | undefined; step: string };

/** Runs `work` so that `onCall` hears under which id the outside knows each of its calls. */
export type CallTracer = <Result>(
  call: DriverCall & { onCall: (correlationId: string) => void },
  work: () => Promise<Result>,
) => Promise<Result>;

export type Journal = {
  /**
   * Does one step and writes down what came of it: `deferred` for a DeferredError and for what the signal broke off, `failed` for
   * anything else thrown, which goes on to the caller. A step that was cut off by the end of the process leaves no trace.
   */
  step<Result>(name: StepName, work: () => Promise<Result>, call?: DriverCall): Promise<Result>;
};

type Ending = Pick<Selectable<RuntimeSteps>, "at" | "outcome" | "detail" | "correlationId">;

/** `trace` belongs to whoever calls the outside; without it, steps have no correlation ids. */
export function createJournal(ctx: { db: Db; clock: Clock; log: Log; trace?: CallTracer }): Journal {
  const { trace = (_call, work) => work() } = ctx;
  return {
    async step(name, work, call = {}) {
      const at = ctx.clock.now();
      let correlationId: string | null = null;
      const onCall = (id: string) => (correlationId = id);
      try {
        const result = await trace({ ...call, onCall }, work);
        await write(ctx, name, { at, outcome: "done", detail: null, correlationId });
        return result;
      } catch (error) {
        await write(ctx, name, { at, ...describeError(error, call.signal), correlationId });
        throw error;
      }
    },
  };
}

function describeError(error: unknown, signal: AbortSignal | undefined): Pick<Ending, "outcome" | "detail"> {
  if (signal?.aborted === true) return { outcome: "deferred", detail: "broken off, to be begun again" };
  const detail = redactText(toPlainText(errorMessage(error))).slice(0, LONGEST_DETAIL);
  return { outcome: error instanceof DeferredError ? "deferred" : "failed", detail };
}

/** What was done is done, whether or not it can be written down: a step must not be repeated, or take the blame, for its journal. */
async function write(ctx: { db: Db; clock: Clock; log: Log }, name: StepName, ending: Ending): Promise<void> {
  try {
    const end = ctx.clock.now();
    if (ending.outcome === "deferred" && (await countUp(ctx.db, name, ending, end))) return;
    await ctx.db
      .insertInto("runtimeSteps")
      .values({
        ...ending,
        tenantId: name.tenantId ?? null,
        step: name.step,
        durationMs: Math.max(0, end.getTime() - ending.at.getTime()),
      })
      .execute();
  } catch (error) {
    ctx.log.error({ ...name, outcome: ending.outcome, error }, "a step could not be written to the journal");
  }
}

/** A step that waits is looked at every few seconds: what it waits for is one row, from the first time to the last. */
async function countUp(db: Db, name: StepName, ending: Ending, end: Date): Promise<boolean> {
  const last = db
    .selectFrom("runtimeSteps")
    .select("id")
    .where("tenantId", name.tenantId === undefined ? "is" : "=", name.tenantId ?? null)
    .where("step", "=", name.step)
    .orderBy("id", "desc")
    .limit(1);
  const { numUpdatedRows } = await db
    .updateTable("runtimeSteps")
    .set({
      times: sql`times + 1`,
      durationMs: sql`greatest(duration_ms, extract(epoch FROM ${end}::timestamptz - at) * 1000)`,
      correlationId: sql`coalesce(${ending.correlationId}, correlation_id)`,
    })
    .where("id", "=", last)
    .where("outcome", "=", "deferred")
    .where("detail", "=", ending.detail)
    .where("at", ">", addMs(end, -FOLD_MS))
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

export type RuntimeStep = Omit<Selectable<RuntimeSteps>, "id" | "tenantId">;

/** The newest `limit` steps of a tenant's runtime, oldest first. */
export async function listSteps(db: Db, tenantId: TenantId, limit: number): Promise<RuntimeStep[]> {
  const rows = await db
    .selectFrom("runtimeSteps")
    .select(["at", "step", "outcome", "times", "durationMs", "correlationId", "detail"])
    .where("tenantId", "=", tenantId)
    .orderBy("id", "desc")
    .limit(limit)
    .execute();
  return rows.toReversed();
}

/** Forgets steps after 90 days. */
export async function pruneSteps(ctx: { db: Db; clock: Clock }, signal: AbortSignal): Promise<void> {
  await pruneRows(ctx.db, "runtimeSteps", sql<boolean>`at < ${addMs(ctx.clock.now(), -KEEP_MS)}`, signal);
}
