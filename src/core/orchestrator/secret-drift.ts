import type { DriverCall, RuntimeDriver } from "../adapters/runtime/runtime-driver.ts";
import type { Clock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import type { TenantId } from "../platform/ids.ts";
import type { Log } from "../platform/log.ts";
import * as store from "./store.ts";
import type { RuntimeRow } from "./store.ts";

/** A runtime that refuses again after it was started anew is left alone for so long: it does some good as it is. */
const RESTART_PERIOD_MS = 10 * 60_000;

/** Remembers, shown until it is over, that the runtime refuses the webhook secret that the vault has. */
export async function noteSecretRefused(ctx: { db: Db; clock: Clock; log: Log }, tenantId: TenantId): Promise<void> {
  const isNews = await store.noteSecretRefused(ctx.db, tenantId, ctx.clock.now());
  if (isNews) ctx.log.warn({ tenantId }, "the runtime has another webhook secret than the vault");
}

export async function noteSecretTaken(db: Db, tenantId: TenantId): Promise<void> {
  await store.noteSecretTaken(db, tenantId);
}

/** What is wrong with a runtime, for people; null when nothing is known to be. */
export function describeTrouble({ reason, secretRefusedAt }: Pick<RuntimeRow, "reason" | "secretRefusedAt">) {
  if (secretRefusedAt === null) return reason;
  const refused = `it refuses the webhook secret of the vault since ${secretRefusedAt.toISOString()}`;
  return reason === null ? refused : `${refused}; ${reason}`;
}

/** Stops a runtime that was given another webhook secret than the vault has now: started anew, it reads all of them again. */
export async function stopIfSecretDiffers(
  ctx: { db: Db; clock: Clock; log: Log; runtimes: RuntimeDriver },
  known: RuntimeRow | undefined,
  call: DriverCall,
): Promise<void> {
  if (known === undefined || known.secretRefusedAt === null) return;
  const { tenantId, healthyAt } = known;
  const upMs = ctx.clock.now().getTime() - (healthyAt?.getTime() ?? 0);
  if (upMs < RESTART_PERIOD_MS) return;
  ctx.log.warn({ tenantId }, "the runtime is started anew for the vault's webhook secret");
  const { state } = await ctx.runtimes.sleep(tenantId, call);
  const stopped = { state, address: null, secretRefusedAt: null, observedAt: ctx.clock.now() };
  await store.putRuntime(ctx.db, { ...known, ...stopped });
}
