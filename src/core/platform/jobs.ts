import { sql } from "kysely";
import type { Db } from "./db.ts";
import type { ProviderId, RolloutId, TenantId } from "./ids.ts";

/** Every kind of background work with what it is given. A job must be safe to run again: crashes repeat it. */
export type JobPayloads = {
  /** Make the runtime of one tenant what the tenant's status says. */
  "tenant.converge": { tenantId: TenantId };
  /** Take a rotation of a tenant's keys as far as it gets. */
  "tenant.rotate-keys": { tenantId: TenantId };
  /** Remove for good what is left of a deleted tenant. */
  "tenant.purge": { tenantId: TenantId };
  /** Take a rollout as far as it can go at the moment. */
  "rollout.advance": { rolloutId: RolloutId };
  /** Tell a subscriber what became of a connection. `grantId`: the consent that it came of. */
  "connection.tell": { tenantId: TenantId; provider: ProviderId; grantId: string; news: "connected" | "expired" };
  /** Apply pending Stripe events. */
  "stripe.project": Record<string, never>;
  /** Re-judge tenants whose entitlement may have ended by the passing of time. */
  "sweep.entitlement": Record<string, never>;
  /** Tell subscribers whose trial is about to end. */
  "sweep.trials": Record<string, never>;
  /** Count what was delivered. */
  "sweep.messages": Record<string, never>;
  /** Settle model calls whose end nobody will tell, and say whose budget runs out. */
  "sweep.usage": Record<string, never>;
  /** Put to sleep what idles. */
  "sweep.idle": Record<string, never>;
  /** Compare what runs with what should, and have each difference mended. */
  "sweep.runtimes": Record<string, never>;
  /** See to it that every rotation of keys goes on. */
  "sweep.rotations": Record<string, never>;
  /** Go on with rollouts that nobody is at, and look how sleepers that were moved wake. */
  "sweep.rollouts": Record<string, never>;
  /** Tell providers of grants that are over, as far as they could not be told yet. */
  "sweep.revocations": Record<string, never>;
  /** Renew the tokens of connections that are due. */
  "sweep.connections": Record<string, never>;
  /** Forget what is past its keeping time. */
  "sweep.retention": Record<string, never>;
};
export type JobName = keyof JobPayloads;

export type EnqueueOptions = {
  /** Jobs of one queue run one at a time, over all daemons. */
  queue?: string;
  /** A waiting job with the same key is replaced instead of joined by a second one. */
  key?: string;
  delayMs?: number;
  /** A waiting job with the same key keeps its time: for whoever only makes sure that there is one. */
  keepsTime?: boolean;
  /** The lower, the sooner among jobs that are due; 0 unless told. A waiting job with the same key stays as urgent as it was. */
  priority?: number;
  /** Tries before the job is left for an operator. */
  maxAttempts?: number;
};

/** Enqueues a job as part of `db`'s transaction: it exists if, and only if, the transaction commits. */
export async function enqueueJob<Name extends JobName>(
  db: Db,
  name: Name,
  payload: JobPayloads[Name],
  options: EnqueueOptions = {},
): Promise<void> {
  const { queue, key, ...rest } = options;
  await enqueueJobs(db, name, [{ payload, queue, key }], rest);
}

/** Enqueues many of one kind in one statement, likewise. */
export async function enqueueJobs<Name extends JobName>(
  db: Db,
  name: Name,
  jobs: readonly { payload: JobPayloads[Name]; queue: string | undefined; key: string | undefined }[],
  options: Omit<EnqueueOptions, "queue" | "key"> = {},
): Promise<void> {
  if (jobs.length === 0) return;
  // By itself, add_job gives a waiting job the priority of whoever asked last.
  await sql`SELECT graphile_worker.add_job(
    ${name}::text,
    payload => job.payload,
    queue_name => job.queue,
    run_at => now() + ${options.delayMs ?? 0} * interval '1 millisecond',
    priority => least(${options.priority ?? 0}::integer, (
      SELECT priority FROM graphile_worker.jobs AS waiting WHERE waiting.key = job.key AND locked_at IS NULL)),
    max_attempts => ${options.maxAttempts ?? 25}::integer,
    job_key => job.key,
    job_key_mode => ${options.keepsTime === true ? "preserve_run_at" : "replace"}::text
  ) FROM unnest(
    ${jobs.map(({ payload }) => JSON.stringify(payload))}::json[],
    ${jobs.map(({ queue }) => queue ?? null)}::text[],
    ${jobs.map(({ key }) => key ?? null)}::text[]
  ) AS job (payload, queue, key)`.execute(db);
}
