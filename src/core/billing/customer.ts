import type { StripeApi } from "../adapters/stripe/stripe-api.ts";
import { type Actor, writeAudit } from "../platform/audit.ts";
import type { Clock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import type { TenantId } from "../platform/ids.ts";
import { enqueueJob } from "../platform/jobs.ts";
import type { Tenant } from "../tenants/tenants.ts";
import { findBilling } from "./account.ts";
import { reviveUnmatched } from "./store.ts";

export type SalesContext = { db: Db; clock: Clock; actor: Actor; stripe: StripeApi };

/** `replaced`: the customer that was linked before, and that this Stripe account, in this mode, does not have. */
export type LinkedCustomer = { id: string; replaced: string | undefined };

/** The customer that is linked to the tenant, unless Stripe has none with that id. */
export async function findCustomer(
  { db, stripe }: Pick<SalesContext, "db" | "stripe">,
  tenantId: TenantId,
): Promise<{ linked: string | undefined; exists: boolean }> {
  const linked = (await findBilling(db, tenantId))?.stripeCustomerId ?? undefined;
  return { linked, exists: linked !== undefined && (await stripe.retrieve("customer", linked)) !== undefined };
}

/**
 * The tenant's customer in Stripe, found or made, and linked; one caller at a time for each tenant. An id of another account or
 * mode, or of a deleted customer, is replaced (F59).
 */
export async function ensureCustomer(ctx: SalesContext, tenant: Tenant): Promise<LinkedCustomer> {
  const { linked, exists } = await findCustomer(ctx, tenant.id);
  if (linked !== undefined && exists) return { id: linked, replaced: undefined };
  const { email, displayName: name } = tenant;
  const known = (await ctx.stripe.findCustomers(email)).find(({ tenantId }) => tenantId === tenant.id);
  // With what it replaces as part of the key, one that was deleted is not given again.
  const key = JSON.stringify(["customer", tenant.id, linked ?? "first", email, name, minuteOf(ctx.clock.now())]);
  const { id } = known ?? (await ctx.stripe.createCustomer({ tenantId: tenant.id, email, name }, key));
  return linkCustomer(ctx, tenant.id, { id, replaced: linked });
}

async function linkCustomer(ctx: SalesContext, tenantId: TenantId, customer: LinkedCustomer): Promise<LinkedCustomer> {
  const at = ctx.clock.now();
  const { id, replaced } = customer;
  return ctx.db.transaction().execute(async (tx) => {
    const row = { stripeCustomerId: id, updatedAt: at };
    const { stripeCustomerId: before } =
      (await tx
        .selectFrom("tenantBilling")
        .select("stripeCustomerId")
        .where("tenantId", "=", tenantId)
        .forUpdate()
        .executeTakeFirst()) ?? {};
    // Somebody else was faster, an event perhaps.
    if (before != null && before !== (replaced ?? null)) return { id: before, replaced };
    await tx
      .insertInto("tenantBilling")
      .values({ tenantId, ...row })
      .onConflict((conflict) => conflict.column("tenantId").doUpdateSet(row))
      .execute();
    const detail = { customer: id, ...(replaced === undefined ? {} : { replaced }) };
    await writeAudit(tx, { at, actor: ctx.actor, action: "billing.customer-linked", tenantId, detail });
    // Events that came before anybody knew whose they are.
    await reviveUnmatched(tx, [id], at);
    await enqueueJob(tx, "stripe.project", {}, { key: "stripe.project" });
    return customer;
  });
}

/** As part of a key: Stripe gives the same answer to the same key for a day, be it that it failed. */
export function minuteOf(now: Date): number {
  return Math.floor(now.getTime() / 60_000);
}
