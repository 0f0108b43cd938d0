import { findBillings, judgeEntitlement } from "../billing/billing.ts";
import { findRuntimes, type RuntimeRow } from "../orchestrator/orchestrator.ts";
import { type Batcher, createBatcher } from "../platform/batcher.ts";
import type { Clock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import { findTenantsByChats, type Tenant } from "../tenants/tenants.ts";

/** Everything that decides where a chat's updates go, as the database has it now. */
export type Route = {
  tenant: Tenant;
  entitled: boolean;
  awaitingPayment: boolean;
  runtime: RuntimeRow | undefined;
};

/** Looks routes up by private chat. Nothing is cached, so that unlinking holds everywhere at once (F21); lookups that arrive together share their queries. */
export function createRouteLookup(ctx: { db: Db; clock: Clock }): Batcher<number, Route | undefined> {
  return createBatcher({
    maxItems: 500,
    async run(chatIds) {
      const tenants = await findTenantsByChats(ctx.db, chatIds);
      const ids = tenants.map((tenant) => tenant.id);
      const [billings, runtimes] = await Promise.all([findBillings(ctx.db, ids), findRuntimes(ctx.db, ids)]);
      const now = ctx.clock.now();
      const routes = new Map(
        tenants.map((tenant): [number | null, Route] => {
          const billing = billings.get(tenant.id);
          const { billingExempt, trialEndsAt } = tenant;
          return [
            tenant.telegramChatId,
            {
              tenant,
              entitled: judgeEntitlement({ billingExempt, trialEndsAt, billing }, now).entitled,
              awaitingPayment: billing?.awaitingPayment ?? false,
              runtime: runtimes.get(tenant.id),
            },
          ];
        }),
      );
      return chatIds.map((chatId) => routes.get(chatId));
    },
  });
}
