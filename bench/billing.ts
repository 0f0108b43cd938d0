import path from "node:path";
import { request } from "undici";
import { startDaemon } from "../scripts/load/daemon-process.ts";
import { median } from "../scripts/load/figures.ts";
import { daemonEnv, type Stage, withStage } from "../scripts/load/stage.ts";
import { systemClock } from "../src/core/platform/clock.ts";
import { createDb } from "../src/core/platform/db.ts";
import { createTenant } from "../src/core/tenants/tenants.ts";
import { chargeEvent } from "../src/core/testing/fakes/stripe-charge-events.ts";
import {
  checkoutEvent,
  type EventBody,
  invoiceEvent,
  signStripeEvent,
  subscriptionEvent,
} from "../src/core/testing/fakes/stripe-events.ts";
import { cpuMicros } from "./server-process.ts";

const SECRET = "whsec_bench";
/** Requests under way at once: Stripe opens no more connections than this for long. */
const IN_FLIGHT = 64;
const TENANTS = 2_000;
const POLL_MS = 20;

export type BillingOptions = { rounds: number; seconds: number };

type Run = { acceptedPerSecond: number; projectedPerSecond: number; behindMs: number; cpuMicrosPerEvent: number };

/**
 * Signed events over HTTP into a whole daemon, kept and projected from their payloads: what is measured ends when the
 * last one is applied. Each subscriber begins once and renews from then on; sending pauses for nothing, so that what is
 * not applied as fast as it is accepted shows as `behindMs`.
 */
export async function benchBilling({ rounds, seconds }: BillingOptions) {
  return withStage(async (stage) => {
    const tenants = await createSubscribers(stage);
    const env = daemonEnv(stage, { STRIPE_WEBHOOK_SECRET: SECRET, STRIPE_PRICE_BASIC: "price_basic" });
    const logFile = path.join(stage.dataDir, "daemon.log");
    const daemon = await startDaemon({ env: { ...env, OPENCLAW_RUNTIME_BIN: "" }, roles: "web,worker", logFile });
    const runs: Run[] = [];
    try {
      const events = endlessEvents(tenants);
      for (let round = 0; round < rounds; round += 1) runs.push(await measure(stage, daemon, events, seconds));
    } finally {
      await daemon.stop();
    }
    const of = (figure: keyof Run) => Math.round(median(runs.map((run) => run[figure])));
    return {
      bench: "billing",
      rounds,
      seconds,
      tenants: TENANTS,
      acceptedPerSecond: of("acceptedPerSecond"),
      projectedPerSecond: of("projectedPerSecond"),
      behindMs: of("behindMs"),
      cpuMicrosPerEvent: of("cpuMicrosPerEvent"),
      runs,
    };
  });
}

/** Exempt from billing's effects on runtimes: what is measured is billing, not the start of two thousand processes. */
async function createSubscribers({ pool }: Stage): Promise<string[]> {
  const ctx = { db: createDb(pool), clock: systemClock, actor: { name: "bench" } };
  const ids: string[] = [];
  for (let number = 0; number < TENANTS; number += 1) {
    const input = { slug: `bench-${number}`, email: `${number}@example.com`, billingExempt: true };
    ids.push((await createTenant(ctx, input)).tenant.id);
  }
  return ids;
}

/** A subscription for each in turn, then renewals without end, in the five events that Stripe sends for each. */
function* endlessEvents(tenants: readonly string[]): Generator<EventBody, never> {
  const begun = Math.floor(Date.now() / 1_000) - 86_400;
  for (let time = 0; ; time += 1) {
    const created = begun + time;
    for (const [index, tenantId] of tenants.entries()) {
      const who = { subscription: `sub_${index}`, customer: `cus_${index}`, started: begun };
      const invoice = `in_${index}_${time}`;
      const shape = index % 2 === 0 ? "acacia" : "basil";
      if (time === 0) yield checkoutEvent({ ...who, created, tenantId });
      yield subscriptionEvent({ ...who, status: "active", created, shape, tenantId });
      yield chargeEvent({
        type: "succeeded",
        charge: `ch_${index}_${time}`,
        customer: who.customer,
        created,
        shape,
        invoice,
      });
      yield invoiceEvent({ ...who, type: "paid", invoice, created, shape, tenantId });
      yield invoiceEvent({ ...who, type: "payment_succeeded", invoice, created, shape, tenantId });
    }
  }
}

async function measure(
  stage: Stage,
  daemon: { url: string; pid: number },
  events: Generator<EventBody, never>,
  seconds: number,
): Promise<Run> {
  const cpuBefore = cpuMicros(daemon.pid);
  const begun = performance.now();
  let sent = 0;
  async function send(): Promise<void> {
    while (performance.now() - begun < seconds * 1_000) {
      const { rawBody, header } = signStripeEvent(events.next().value, SECRET);
      const url = `${daemon.url}/webhooks/stripe`;
      const headers = { "stripe-signature": header, "content-type": "application/json" };
      const { statusCode, body } = await request(url, { method: "POST", headers, body: rawBody });
      await body.dump();
      if (statusCode !== 200) throw new Error(`an event was answered with ${statusCode}`);
      sent += 1;
    }
  }
  await Promise.all(Array.from({ length: IN_FLIGHT }, send));
  const accepted = performance.now();
  await untilProjected(stage);
  const projected = performance.now();
  return {
    acceptedPerSecond: (sent * 1_000) / (accepted - begun),
    projectedPerSecond: (sent * 1_000) / (projected - begun),
    behindMs: projected - accepted,
    cpuMicrosPerEvent: (cpuMicros(daemon.pid) - cpuBefore) / sent,
  };
}

async function untilProjected({ pool }: Stage): Promise<void> {
  for (;;) {
    const { rowCount } = await pool.query("SELECT FROM stripe_events WHERE status = 'pending' LIMIT 1");
    if (rowCount === 0) break;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  const { rows } = await pool.query(
    "SELECT status, count(*) FROM stripe_events WHERE status <> 'projected' GROUP BY 1",
  );
  if (rows.length > 0) throw new Error(`not every event was projected: ${JSON.stringify(rows)}`);
}
