import type pg from "pg";
import {
  billingAsJson,
  judgeEntitlement,
  readBilling,
  type SpendingStop,
  spendingStopAsSql,
} from "../billing/billing.ts";
import { parseRuntimeRoute, type RuntimeRoute, runtimeAsJson } from "../orchestrator/orchestrator.ts";
import { type Batcher, createBatcher } from "../platform/batcher.ts";
import type { Clock } from "../platform/clock.ts";
import type { TenantId } from "../platform/ids.ts";
import type { Tenant } from "../tenants/tenants.ts";
import type { TenantChat } from "./bot-api-ownership.ts";

export type RouteTenant = Pick<
  Tenant,
  "id" | "slug" | "displayName" | "status" | "statusReason" | "suspendedBy" | "telegramChatId" | "telegramUserId"
>;

/** Everything that decides where a chat's updates go, as the database has it now. */
export type Route = {
  tenant: RouteTenant;
  entitled: boolean;
  awaitingPayment: boolean;
  /** Why no model call would be let through now. */
  spendingStop: SpendingStop | undefined;
  runtime: RuntimeRoute | undefined;
};

type Row = RouteTenant &
  Pick<Tenant, "billingExempt" | "trialEndsAt"> & {
    billing: Parameters<typeof readBilling>[0];
    spendingStop: SpendingStop | null;
    runtime: Parameters<typeof parseRuntimeRoute>[0];
  };

const FIND_ROUTES = `SELECT id, slug, display_name AS "displayName", status, status_reason AS "statusReason",
    suspended_by AS "suspendedBy", telegram_chat_id AS "telegramChatId", telegram_user_id AS "telegramUserId",
    billing_exempt AS "billingExempt", trial_ends_at AS "trialEndsAt",
    ${billingAsJson("tenants.id")} AS billing, ${runtimeAsJson("tenants.id")} AS runtime,
    ${spendingStopAsSql({ now: "$2" })} AS "spendingStop"
  FROM tenants WHERE telegram_chat_id = ANY ($1::bigint[])`;

/**
 * Looks routes up by private chat. Nothing is cached, so that unlinking holds everywhere at once (F21); lookups that arrive
 * together share one query, prepared, and it reads no more than routing needs: a round trip takes node 120 µs, and a whole
 * tenant 30.
 */
export function createRouteLookup(ctx: { pool: pg.Pool; clock: Clock }): Batcher<number, Route | undefined> {
  return createBatcher({
    maxItems: 500,
    async run(chatIds) {
      const now = ctx.clock.now();
      const { rows } = await ctx.pool.query<Row>({ name: "find-routes", text: FIND_ROUTES, values: [chatIds, now] });
      const routes = new Map(
        rows.map(
          ({
            billingExempt,
            trialEndsAt,
            billing: packed,
            runtime,
            spendingStop,
            ...tenant
          }): [number | null, Route] => {
            const billing = readBilling(packed);
            const { entitled } = judgeEntitlement({ billingExempt, trialEndsAt, billing }, now);
            const awaitingPayment = billing?.awaitingPayment ?? false;
            return [
              tenant.telegramChatId,
              {
                tenant,
                entitled,
                awaitingPayment,
                spendingStop: spendingStop ?? undefined,
                runtime: parseRuntimeRoute(runtime),
              },
            ];
          },
        ),
      );
      return chatIds.map((chatId) => routes.get(chatId));
    },
  });
}

const FIND_CHATS = `SELECT id, telegram_chat_id AS "chatId", telegram_user_id AS "userId"
  FROM tenants WHERE id = ANY ($1::uuid[]) AND telegram_chat_id IS NOT NULL`;

/** Looks up the private chats that are linked to tenants, in the same way. */
export function createChatLookup({ pool }: { pool: pg.Pool }): Batcher<TenantId, TenantChat | undefined> {
  return createBatcher({
    maxItems: 500,
    async run(tenantIds) {
      const query = { name: "find-chats", text: FIND_CHATS, values: [tenantIds] };
      const { rows } = await pool.query<TenantChat & { id: TenantId }>(query);
      const chats = new Map(rows.map(({ id, chatId, userId }) => [id, { chatId, userId }]));
      return tenantIds.map((id) => chats.get(id));
    },
  });
}
