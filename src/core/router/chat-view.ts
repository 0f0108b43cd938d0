import type pg from "pg";
import { sql } from "kysely";
import { findEntitlement } from "../billing/billing.ts";
import type { Clock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import { findTenantByChat } from "../tenants/tenants.ts";
import { findChatClosedAt } from "./closed-chats.ts";
import { countDeadLetters } from "./dead-letters.ts";
import { buildUpdate, type Simulation, simulateUpdate } from "./route-simulation.ts";
import { findShardOwners, type ShardOwner } from "./shard-owners.ts";
import { parseUpdate, readFacts, shardOf } from "./update.ts";

/** An update that is accepted and not finished; `verdict` only for the first, the one being worked on. */
export type OpenUpdate = { updateId: number; kind: string; acceptedAt: Date; simulation: Simulation | undefined };

/** Where a chat leads, and how it fares there. */
export type ChatView = {
  chatId: number;
  shard: number;
  /** What would happen to a message of the linked person, accepted now. */
  next: Simulation;
  entitlement: { entitled: boolean; reason: string } | null;
  owner: ShardOwner | null;
  openCount: number;
  /** The oldest, at most 20. */
  open: OpenUpdate[];
  /** Among the newest of all chats only; see `SEARCHED`. */
  lastDelivered: { updateId: number; at: Date } | null;
  deadLetters: number;
  /** Since when nothing that is said arrives there: its person blocked the bot or is gone. */
  closedAt: Date | null;
};

const OPEN_SHOWN = 20;

/** Finished updates have no index by chat, which every acceptance would pay for; so many of the newest are looked through. */
export const SEARCHED = 200_000;

export async function viewChat(ctx: { db: Db; pool: pg.Pool; clock: Clock }, chatId: number): Promise<ChatView> {
  const { db, clock } = ctx;
  const shard = shardOf(chatId);
  const linked = chatId > 0 ? await findTenantByChat(db, chatId) : undefined;
  const userId = linked?.telegramUserId ?? Math.abs(chatId);
  const next = await simulateUpdate(ctx, buildUpdate({ chatId, userId }), clock.now());
  const tenantId = next.route?.tenant.id;
  return {
    chatId,
    shard,
    next,
    entitlement: tenantId === undefined ? null : await findEntitlement(db, tenantId, clock.now()),
    owner: (await findShardOwners(db, [shard])).get(shard) ?? null,
    ...(await readOpen(ctx, shard, chatId)),
    lastDelivered: await findLastDelivered(db, chatId),
    deadLetters: await countDeadLetters(db, { lane: chatId }),
    closedAt: (await findChatClosedAt(db, chatId)) ?? null,
  };
}

async function readOpen(ctx: { db: Db; pool: pg.Pool; clock: Clock }, shard: number, lane: number) {
  const inLane = ctx.db
    .selectFrom("telegramUpdates")
    .where("finishedAt", "is", null)
    .where("shard", "=", shard)
    .where("lane", "=", lane);
  const { count } = await inLane.select((eb) => eb.fn.countAll<number>().as("count")).executeTakeFirstOrThrow();
  const rows = await inLane.select(["updateId", "body", "acceptedAt"]).orderBy("seq").limit(OPEN_SHOWN).execute();
  const open: OpenUpdate[] = [];
  for (const { updateId, body, acceptedAt } of rows) {
    const parsed = parseUpdate(body);
    const simulation = open.length === 0 ? await simulateUpdate(ctx, parsed, acceptedAt) : undefined;
    open.push({ updateId, kind: readFacts(parsed).kind, acceptedAt, simulation });
  }
  return { openCount: count, open };
}

async function findLastDelivered(db: Db, lane: number): Promise<ChatView["lastDelivered"]> {
  const { rows } = await sql<{ updateId: number; at: Date }>`
    SELECT update_id, finished_at AS at FROM (
      SELECT update_id, lane, outcome, finished_at FROM telegram_updates
      WHERE finished_at IS NOT NULL ORDER BY finished_at DESC LIMIT ${SEARCHED}
    ) AS newest WHERE lane = ${lane} AND outcome = 'delivered' ORDER BY at DESC LIMIT 1`.execute(db);
  return rows[0] ?? null;
}
