import { InvalidArgumentError } from "commander";
import { addMs } from "../../../core/platform/clock.ts";
import { UsageError } from "../../../core/platform/errors.ts";
import type { Selection } from "../../../core/router/dead-letters.ts";
import type { Store } from "../../../core/context.ts";
import { getTenant } from "../../../core/tenants/tenants.ts";

const UNITS_MS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** A moment, or how long ago it was. */
type Since = { at: Date } | { agoMs: number };

export type Selectors = { tenant?: string; all?: boolean; since?: Since };

/** Parses `90m`, `12h`, `2d`, or a date and time. */
export function parseSince(text: string): Since {
  const [, count, unit] = /^([0-9]{1,6})([smhd])$/.exec(text) ?? [];
  if (unit !== undefined) return { agoMs: Number(count) * UNITS_MS[unit as keyof typeof UNITS_MS] };
  const at = new Date(text);
  if (/^\d{4}-/.test(text) && !Number.isNaN(at.getTime())) return { at };
  throw new InvalidArgumentError("It must be like 90m, 12h or 2d, or a time such as 2026-11-20T10:00:00Z.");
}

/** Parses the ids of dead letters. */
export function parseId(text: string, previous: number[] = []): number[] {
  const id = Number(text);
  if (!/^[0-9]{1,16}$/.test(text) || !Number.isSafeInteger(id)) {
    throw new InvalidArgumentError("It must be the number that `openclaw route dead-letters list` shows.");
  }
  return previous.includes(id) ? previous : [...previous, id];
}

/** What `--tenant` and `--since` leave of all letters. @throws NotFoundError for an unknown tenant. */
export async function filterOf({ db, clock }: Store, { tenant, since }: Selectors): Promise<Selection> {
  return {
    tenantId: tenant === undefined ? undefined : (await getTenant(db, tenant)).id,
    since: since === undefined ? undefined : "at" in since ? since.at : addMs(clock.now(), -since.agoMs),
  };
}

/** What somebody picked to be changed: ids or selectors, never everything by leaving both out. */
export async function selectionOf(store: Store, ids: readonly number[], selectors: Selectors): Promise<Selection> {
  const { tenant, all, since } = selectors;
  const filters = tenant !== undefined || since !== undefined;
  if ([ids.length > 0, all === true, filters].filter(Boolean).length !== 1) {
    throw new UsageError("selection_unclear", "Give either ids, or --tenant and --since (or one of them), or --all.");
  }
  return ids.length > 0 ? { ids } : filterOf(store, selectors);
}
