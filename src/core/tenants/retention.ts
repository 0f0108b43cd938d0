import { sql } from "kysely";
import { addMs, type Clock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import { pruneRows } from "../platform/prune.ts";

const DAY_MS = 86_400_000;
/** Past its end a link is only told from one that never was, which nobody needs for longer. */
const KEEP_LINKS_MS = DAY_MS;
/** Whoever repeats a call does so within days; afterwards its slug, e-mail and chat still name the conflict. */
const KEEP_IDEMPOTENCY_KEYS_MS = 30 * DAY_MS;

/** Forgets links 24 hours after their end (none lasts longer than its 15 minutes), and idempotency keys after 30 days. */
export async function pruneRequests(ctx: { db: Db; clock: Clock }, signal: AbortSignal): Promise<void> {
  const now = ctx.clock.now();
  await pruneRows(ctx.db, "linkTokens", sql<boolean>`expires_at < ${addMs(now, -KEEP_LINKS_MS)}`, signal);
  const before = addMs(now, -KEEP_IDEMPOTENCY_KEYS_MS);
  await pruneRows(ctx.db, "idempotencyKeys", sql<boolean>`created_at < ${before}`, signal);
}
