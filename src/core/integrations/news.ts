import type { Db } from "../platform/db.ts";
import { enqueueJob, type JobPayloads } from "../platform/jobs.ts";
import type { Connection } from "./connection.ts";
import { find } from "./store.ts";

export type ConnectionNews = JobPayloads["connection.tell"];

/** Has the subscriber told, if `db`'s transaction commits. */
export async function enqueueConnectionNews(db: Db, news: ConnectionNews): Promise<void> {
  const key = `tell:${news.tenantId}:${news.provider}:${news.grantId}:${news.news}`;
  await enqueueJob(db, "connection.tell", news, { key });
}

/** What the news is about; undefined when it is no longer true: the connection has another grant by now, or has changed. */
export async function findConnectionOfNews(
  db: Db,
  { grantId, news, ...key }: ConnectionNews,
): Promise<Connection | undefined> {
  const connection = await find(db, key);
  if (connection?.grantId !== grantId) return undefined;
  const isTrue =
    news === "expired"
      ? connection.state === "expired"
      : // Trouble with our client is none of the subscriber's.
        connection.state === "active" || connection.state === "error";
  return isTrue ? connection : undefined;
}
