import type { Store } from "../../core/context.ts";
import { describePhase, findKeys, holdsKeys } from "../../core/orchestrator/orchestrator.ts";
import { ConflictError, PartialError, TimeoutError } from "../../core/platform/errors.ts";
import type { TenantId } from "../../core/platform/ids.ts";
import { findTenantById, type Tenant } from "../../core/tenants/tenants.ts";
import { printJson, printTable, say } from "../output.ts";

const POLL_MS = 500;

/**
 * What became of one tenant's keys. `left-out`: it has none, and was not asked for by name. `late`: it goes on, but was not done in time.
 */
type RotationItem = {
  tenantId: TenantId;
  tenant: string;
  result: "rotating" | "rotated" | "would-rotate" | "refused" | "left-out" | "late";
  /** Of the new keys. */
  generation: number | null;
  /** Why it was refused. */
  code: string | null;
  reason: string | null;
};

/** Works on one after the other. Safe to run again when it is cut off: what was begun is refused. */
export async function eachRotation(
  tenants: readonly Tenant[],
  { isNamed, result }: { isNamed: boolean; result: RotationItem["result"] },
  work: (tenant: Tenant) => Promise<{ generation: number }>,
): Promise<RotationItem[]> {
  const items: RotationItem[] = [];
  for (const tenant of tenants) {
    const base = { tenantId: tenant.id, tenant: tenant.slug };
    try {
      items.push({ ...base, result, ...(await work(tenant)), code: null, reason: null });
    } catch (error) {
      // That one can't be rotated is told with the others.
      if (!(error instanceof ConflictError)) throw error;
      const refusal = { generation: null, code: error.code, reason: error.message };
      items.push({ ...base, result: isNamed || holdsKeys(tenant) ? "refused" : "left-out", ...refusal });
    }
  }
  return items;
}

/** Waits until the old keys of all that were begun are gone. */
export async function waitForRotations(
  store: Store,
  begun: readonly RotationItem[],
  timeoutMs: number,
): Promise<RotationItem[]> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const items: RotationItem[] = [];
    for (const item of begun) items.push(item.result === "rotating" ? await look(store, item) : item);
    if (items.every(({ result }) => result !== "late") || performance.now() >= deadline) return items;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** How a rotation that was begun stands. */
async function look(store: Store, item: RotationItem): Promise<RotationItem> {
  const tenant = await findTenantById(store.db, item.tenantId);
  if (tenant === undefined || !holdsKeys(tenant)) {
    const reason = `Tenant ${item.tenant} was removed meanwhile, and its keys with it.`;
    return { ...item, result: "refused", code: "no_keys", reason };
  }
  const rotation = (await findKeys(store, tenant))?.rotation;
  if (rotation == null || rotation.generation !== item.generation) return { ...item, result: "rotated" };
  const trouble = rotation.trouble === null ? "" : `; ${rotation.trouble}`;
  return { ...item, result: "late", reason: `${describePhase(rotation.phase)}${trouble}` };
}

/**
 * Prints what became of each.
 * @throws PartialError when only some succeeded; when none did, the first refusal, else TimeoutError.
 */
export function printRotations(items: readonly RotationItem[], json: boolean | undefined): void {
  const meant = items.filter(({ result }) => result !== "left-out");
  const failed = meant.filter(({ result }) => result === "refused" || result === "late");
  if (failed.length > 0 && failed.length === meant.length) throw failureOf(failed);
  if (json) printJson({ items });
  else if (items.length === 0) say("No tenants match.");
  else printItems(items);
  if (failed.length > 0)
    throw new PartialError("some_failed", `${failed.length} of ${meant.length} were refused, or not done in time.`);
}

function failureOf(failed: readonly RotationItem[]): Error {
  const refused = failed.find(({ result }) => result === "refused");
  const more = failed.length === 1 ? "" : ` (and so on: none of ${failed.length} succeeded)`;
  if (refused !== undefined) return new ConflictError(refused.code ?? "refused", `${refused.reason}${more}`);
  const each = failed.map(({ tenant, reason }) => `${tenant}: ${reason}`).join("; ");
  return new TimeoutError("wait_timeout", `Not done in time, and going on: ${each}. Is a daemon running?`);
}

function printItems(items: readonly RotationItem[]): void {
  printTable(
    ["TENANT", "RESULT", "KEYS", "WHY"],
    items.map(({ tenant, result, generation, reason }) => [
      tenant,
      result,
      generation === null ? "–" : `generation ${generation}`,
      reason ?? "",
    ]),
  );
}
