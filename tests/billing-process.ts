/** A process to be killed: keeps the events that it is given as JSON lines and applies them, as a daemon does. */
import { createInterface } from "node:readline";
import { parseStripeEvent } from "../src/core/adapters/stripe/stripe-event.ts";
import { createLedger, projectStripeEvents } from "../src/core/billing/billing.ts";
import { systemClock } from "../src/core/platform/clock.ts";
import { createDb, createPool } from "../src/core/platform/db.ts";
import { createLog } from "../src/core/platform/log.ts";

const [url = ""] = process.argv.slice(2);
const pool = createPool({ url, max: 4, applicationName: "billing-process", onIdleError: () => undefined });
const ctx = {
  db: createDb(pool),
  clock: systemClock,
  actor: { name: "billing" },
  log: createLog("error"),
  prices: { basic: "price_basic", plus: "price_plus" },
};
const ledger = createLedger(ctx);
const lines: string[] = [];
for await (const line of createInterface({ input: process.stdin })) lines.push(line);
await Promise.all(
  lines.map((line) => ledger.submit({ event: parseStripeEvent(JSON.parse(line)), rawBody: Buffer.from(line) })),
);
await projectStripeEvents(ctx, new AbortController().signal);
await pool.end();
