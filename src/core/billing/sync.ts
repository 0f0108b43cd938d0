import { z } from "zod";
import type { StripeApi } from "../adapters/stripe/stripe-api.ts";
import { readStripeNews } from "../adapters/stripe/stripe-event.ts";
import { ConflictError, errorMessage, OpenClawError, UpstreamError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import { enqueueJob } from "../platform/jobs.ts";
import type { Log } from "../platform/log.ts";
import { pause } from "../platform/pause.ts";
import { type Item, projectNews, type ProjectionContext } from "./project-event.ts";
import { takeReadSlot } from "./read-slots.ts";
import * as store from "./store.ts";
import {
  beginSync,
  endSync,
  findUnseen,
  listStripeIds,
  readStates,
  saveProgress,
  type State,
  withSyncLock,
} from "./sync-store.ts";
import type pg from "pg";

export type SyncContext = ProjectionContext & { pool: pg.Pool; stripe: StripeApi; log: Log };

type Fact = string | boolean | Date | null;
export type SyncChange = { field: string; before: Fact; after: Fact };

/** What was found out about one subscription. */
export type SyncItem = { subscription: string; tenantId: TenantId | null } & (
  | { result: "same" }
  | { result: "repaired"; changes: SyncChange[] }
  /** Stripe has it, and no tenant is known to be its. */
  | { result: "unmatched"; status: string }
  /** We have it, and Stripe doesn't: it is of another account or mode (F59). */
  | { result: "unknown-in-stripe" }
  | { result: "failed"; reason: string }
);

export type SyncOptions = {
  /** Changes nothing, and says what it would change. */
  dryRun: boolean;
  /** From the first page on, whatever is left of a comparison that was broken off. */
  restart: boolean;
  signal: AbortSignal;
  /** Told as it goes. */
  onItem(item: SyncItem): void;
};

/** A subscription as Stripe has it, with its latest invoice where that is known. */
type Found = { id: string; body: Record<string, unknown>; readAt: Date };

const FIRST_PAUSE_MS = 1_000;
/** Stripe's limits are by the second; what lasts longer than that is an outage. */
const MAX_TRIES = 8;
const BUSY_PAUSE_MS = 500;

/**
 * Compares every subscription with Stripe, page by page at Stripe's pace, and has what differs follow Stripe's word, with all
 * that an event would have brought about. One that was broken off goes on after the last page that was done.
 * @throws ConflictError while another is under way; UpstreamError when Stripe stays away: what was done is kept.
 */
export async function syncBilling(ctx: SyncContext, options: SyncOptions): Promise<void> {
  await withSyncLock(ctx.pool, async () => {
    const fresh = { startedAt: ctx.clock.now(), after: undefined };
    const { startedAt, after } = options.dryRun
      ? fresh
      : await beginSync(ctx.db, { ...fresh, restart: options.restart });
    const seen = new Set<string>();
    for (let last = after; ;) {
      const { subscriptions, readAt, next } = await readPage(ctx, last, options.signal);
      if (options.signal.aborted) return;
      const found = subscriptions.map((body) => ({ id: String(body["id"]), body, readAt }));
      for (const { id } of found) seen.add(id);
      await applyFound(ctx, found, options);
      // What was not looked at to its end is looked at again.
      if (options.signal.aborted) return;
      last = next ?? subscriptions.map((body) => String(body["id"])).at(-1) ?? last;
      if (!options.dryRun && last !== undefined) await saveProgress(ctx.db, last);
      if (next === undefined) break;
    }
    const unseen = await findUnseen(ctx.db, startedAt);
    for (const one of unseen) if (!seen.has(one.id)) await syncOne(ctx, one, options);
    if (!options.dryRun && !options.signal.aborted) await endSync(ctx.db);
  });
}

/** The same for some tenants, by the subscriptions that we know of and those that Stripe lists for their customers. */
export async function syncTenants(
  ctx: SyncContext,
  tenantIds: readonly TenantId[],
  options: Omit<SyncOptions, "restart">,
): Promise<void> {
  for (const { tenantId, subscriptions, customers } of await listStripeIds(ctx.db, tenantIds)) {
    const ids = new Set(subscriptions);
    for (const customer of customers) {
      const listed = await patiently(ctx, options.signal, "subscription", () =>
        ctx.stripe.listSubscriptionsOf(customer),
      );
      for (const { id } of listed) ids.add(id);
    }
    for (const id of ids) await syncOne(ctx, { id, tenantId }, options);
  }
}

async function readPage(ctx: SyncContext, after: string | undefined, signal: AbortSignal) {
  const readAt = ctx.clock.now();
  const read = async (from: string | undefined) =>
    patiently(ctx, signal, "subscription", () => ctx.stripe.listSubscriptions(from));
  try {
    const page = await read(after);
    return { subscriptions: page.subscriptions, next: page.last, readAt };
  } catch (error) {
    // A place in the list of another account or mode: this one's is read from its beginning.
    if (after === undefined || !(error instanceof UpstreamError) || error.code !== "stripe-refused") throw error;
    const page = await read(undefined);
    return { subscriptions: page.subscriptions, next: page.last, readAt };
  }
}

async function syncOne(
  ctx: SyncContext,
  { id, tenantId }: { id: string; tenantId: TenantId },
  options: Omit<SyncOptions, "restart">,
): Promise<void> {
  if (options.signal.aborted) return;
  const readAt = ctx.clock.now();
  const body = await patiently(ctx, options.signal, "subscription", () => ctx.stripe.retrieve("subscription", id));
  if (body === undefined) return options.onItem({ subscription: id, tenantId, result: "unknown-in-stripe" });
  await applyFound(ctx, [{ id, body: await withInvoice(ctx, body, options.signal), readAt }], options);
}

async function withInvoice(ctx: SyncContext, body: Record<string, unknown>, signal: AbortSignal) {
  const id = body["latest_invoice"];
  if (typeof id !== "string") return body;
  return { ...body, latest_invoice: await patiently(ctx, signal, "invoice", () => ctx.stripe.retrieve("invoice", id)) };
}

/** At Stripe's pace over everybody who uses the key, and again while Stripe asks for patience. */
async function patiently<Result>(
  ctx: SyncContext,
  signal: AbortSignal,
  kind: Parameters<typeof takeReadSlot>[1],
  call: () => Promise<Result>,
): Promise<Result> {
  for (let tries = 1; ; tries += 1) {
    await pause(await takeReadSlot(ctx.db, kind), signal);
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof UpstreamError) || !error.retryable || tries === MAX_TRIES || signal.aborted) throw error;
      ctx.log.info({ error: errorMessage(error), tries }, "Stripe is asked again in a while");
      await pause(FIRST_PAUSE_MS * 2 ** (tries - 1) * (0.5 + Math.random()), signal);
    }
  }
}

/** All of them in one transaction, and if that fails each in one of its own, so that one at fault holds up no other. */
async function applyFound(
  ctx: SyncContext,
  found: readonly Found[],
  options: Omit<SyncOptions, "restart">,
): Promise<void> {
  if (found.length === 0) return;
  try {
    for (const item of await applyTogether(ctx, found, options)) options.onItem(item);
  } catch (error) {
    // What isn't about one of them, such as a database that is away, ends the comparison.
    const isOfItem = error instanceof OpenClawError || error instanceof z.ZodError;
    if (options.signal.aborted || !isOfItem) throw error;
    const [first] = found;
    if (found.length > 1) for (const one of found) await applyFound(ctx, [one], options);
    else if (first !== undefined)
      options.onItem({ subscription: first.id, tenantId: null, result: "failed", reason: errorMessage(error) });
  }
}

class DryRun extends Error {}

async function applyTogether(
  ctx: SyncContext,
  found: readonly Found[],
  { dryRun, signal }: Omit<SyncOptions, "restart">,
): Promise<SyncItem[]> {
  let items: SyncItem[] = [];
  try {
    await ctx.db.transaction().execute(async (tx) => {
      await lockLanes({ ...ctx, db: tx }, found, signal);
      const ids = found.map(({ id }) => id);
      const before = await readStates(tx, ids);
      const news = found.flatMap((one) => newsOf(one).map((item) => ({ id: one.id, item })));
      const { outcomes, revivedLanes } = await projectNews(
        { ...ctx, db: tx },
        news.map(({ item }) => item),
      );
      if (revivedLanes.length > 0) {
        await store.reviveUnmatched(tx, revivedLanes, ctx.clock.now());
        await enqueueJob(tx, "stripe.project", {}, { key: "stripe.project" });
      }
      const after = await readStates(tx, ids);
      items = found.map(({ id, body }) => {
        const refused = outcomes.find((outcome, index) => news[index]?.id === id && outcome.status === "refused");
        if (refused?.status === "refused") throw refused.error;
        return describe(id, String(body["status"]), before.get(id), after.get(id));
      });
      if (dryRun) throw new DryRun();
    });
  } catch (error) {
    if (!(error instanceof DryRun)) throw error;
  }
  return items;
}

/** Events of these customers wait meanwhile, and what they bring is judged by what was found here. */
async function lockLanes(ctx: SyncContext, found: readonly Found[], signal: AbortSignal): Promise<void> {
  const lanes = [
    ...new Set(found.map(({ id, body }) => (typeof body["customer"] === "string" ? body["customer"] : id))),
  ];
  for (let tries = 1; ; tries += 1) {
    const held = await store.tryLockLanes(ctx.db, lanes);
    if (held.length === lanes.length) return;
    if (tries === MAX_TRIES || signal.aborted)
      throw new ConflictError("busy", "Events of its customer are being applied; run the command again.");
    await pause(BUSY_PAUSE_MS, signal);
  }
}

/** As events would tell it: the subscription's state, and what became of its latest invoice. */
function newsOf({ id, body, readAt }: Found): Item[] {
  const source = { eventId: `sync_${id}`, at: readAt };
  const item = (type: string, object: unknown): Item => ({ news: readStripeNews(type, { data: { object } }), source });
  const invoice = body["latest_invoice"];
  const items = [item("customer.subscription.updated", body)];
  if (typeof invoice !== "object" || invoice === null || !("status" in invoice)) return items;
  if (invoice.status === "paid") return [...items, item("invoice.paid", invoice)];
  // Open while a first payment is on its way, too; only these two say that it was tried in vain.
  const isOverdue = body["status"] === "past_due" || body["status"] === "unpaid";
  return invoice.status === "open" && isOverdue ? [...items, item("invoice.payment_failed", invoice)] : items;
}

function describe(subscription: string, status: string, before: State | undefined, after: State | undefined): SyncItem {
  if (after === undefined) return { subscription, tenantId: null, result: "unmatched", status };
  const { tenantId, ...facts } = after;
  const known: Record<string, Fact> = before ?? {};
  const changes = Object.entries<Fact>(facts)
    .map(([field, value]) => ({ field, before: known[field] ?? null, after: value }))
    .filter((change) => JSON.stringify(change.before) !== JSON.stringify(change.after));
  return changes.length === 0
    ? { subscription, tenantId, result: "same" }
    : { subscription, tenantId, result: "repaired", changes };
}
