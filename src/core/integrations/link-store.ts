import { type Insertable, type Selectable, sql } from "kysely";
import { addMs, type Clock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import { pruneRows } from "../platform/prune.ts";
import type { ConnectLinks, OauthStates } from "../platform/schema.ts";
import type { ConnectionKey } from "./store.ts";

const DAY_MS = 86_400_000;
/** Past its end a link only tells whoever opens it what became of it. */
const KEEP_LINKS_MS = 30 * DAY_MS;
const KEEP_STATES_MS = DAY_MS;

export type ConnectLink = Selectable<ConnectLinks>;
export type OAuthState = Selectable<OauthStates>;

export async function insertLink(db: Db, row: Insertable<ConnectLinks>): Promise<void> {
  await db.insertInto("connectLinks").values(row).execute();
}

/** Whatever its state. */
export async function findLink(db: Db, tokenHash: Buffer): Promise<ConnectLink | undefined> {
  return db.selectFrom("connectLinks").selectAll().where("tokenHash", "=", tokenHash).executeTakeFirst();
}

/** Consents that were begun by them lead nowhere either. */
export async function revokeLinks(
  db: Db,
  { tenantId, provider }: ConnectionKey,
  { at, as }: { at: Date; as: ConnectLink["revokedAs"] },
): Promise<void> {
  await db
    .updateTable("connectLinks")
    .set({ revokedAt: at, revokedAs: as })
    .where("tenantId", "=", tenantId)
    .where("provider", "=", provider)
    .where("usedAt", "is", null)
    .where("revokedAt", "is", null)
    .execute();
}

/** Marks the link used, for one caller only. That it has expired meanwhile is no matter: who began in time may finish. */
export async function useLink(db: Db, tokenHash: Buffer, at: Date): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable("connectLinks")
    .set({ usedAt: at })
    .where("tokenHash", "=", tokenHash)
    .where("usedAt", "is", null)
    .where("revokedAt", "is", null)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

export async function insertState(db: Db, row: Insertable<OauthStates>): Promise<void> {
  await db.insertInto("oauthStates").values(row).execute();
}

/** How many consents of a link were begun lately, whatever became of them. */
export async function countRecentStates(db: Db, linkHash: Buffer, now: Date): Promise<number> {
  const { count } = await db
    .selectFrom("oauthStates")
    .select((eb) => eb.fn.countAll<number>().as("count"))
    .where("linkHash", "=", linkHash)
    .where("expiresAt", ">", now)
    .executeTakeFirstOrThrow();
  return count;
}

/** Marks the state used and gives it, to one caller only: undefined when it is unknown, used or too old. */
export async function consumeState(db: Db, stateHash: Buffer, at: Date): Promise<OAuthState | undefined> {
  return db
    .updateTable("oauthStates")
    .set({ consumedAt: at })
    .where("stateHash", "=", stateHash)
    .where("consumedAt", "is", null)
    .where("expiresAt", ">", at)
    .returningAll()
    .executeTakeFirst();
}

/** Whatever its state. */
export async function findState(db: Db, stateHash: Buffer): Promise<OAuthState | undefined> {
  return db.selectFrom("oauthStates").selectAll().where("stateHash", "=", stateHash).executeTakeFirst();
}

/** Forgets links 30 days after they have expired, and states after one. */
export async function pruneConnectLinks(ctx: { db: Db; clock: Clock }, signal: AbortSignal): Promise<void> {
  const now = ctx.clock.now();
  await pruneRows(ctx.db, "oauthStates", sql<boolean>`expires_at < ${addMs(now, -KEEP_STATES_MS)}`, signal);
  await pruneRows(ctx.db, "connectLinks", sql<boolean>`expires_at < ${addMs(now, -KEEP_LINKS_MS)}`, signal);
}
