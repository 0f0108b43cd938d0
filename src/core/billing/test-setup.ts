import { sql } from "kysely";
import type { StripeReader } from "../adapters/stripe/stripe-api.ts";
import { parseStripeEvent } from "../adapters/stripe/stripe-event.ts";
import { fixedClock } from "../platform/clock.ts";
import type { TenantId } from "../platform/ids.ts";
import { createLog } from "../platform/log.ts";
import { createTenant } from "../tenants/tenants.ts";
import { createTestDatabase } from "../testing/database.ts";
import type { EventBody } from "../testing/fakes/stripe-events.ts";
import { createLedger, projectStripeEvents } from "./billing.ts";

export const START = new Date("2026-03-01T12:00:00Z");
/** A minute later, in Unix seconds: when lives begin. */
export const T0 = START.getTime() / 1000 + 60;

/** A database, a clock that stands still, and the way of events from acceptance to effect. */
export async function openBillingStage() {
  const database = await createTestDatabase();
  const stage = {
    db: database.db,
    url: database.url,
    pool: database.pool,
    clock: fixedClock(START),
    tenants: 0,
    /** Empties everything and sets the clock back. */
    async reset() {
      stage.clock = fixedClock(START);
      await sql`TRUNCATE stripe_events, tenants, audit_log CASCADE`.execute(database.db);
      await sql`SELECT graphile_worker.complete_jobs(array_agg(id)) FROM graphile_worker.jobs`.execute(database.db);
    },
    context(stripe?: StripeReader) {
      return {
        db: database.db,
        clock: stage.clock,
        actor: { name: "billing" },
        log: createLog("error", { write: () => true }),
        prices: { basic: "price_basic", plus: "price_plus" },
        stripe,
      };
    },
    async newTenant(options: { trialDays?: number; telegramChatId?: number } = {}): Promise<TenantId> {
      const slug = `tenant-${++stage.tenants}`;
      const { tenant } = await createTenant(stage.context(), { slug, email: `${slug}@example.com`, ...options });
      return tenant.id;
    },
    async accept(...events: EventBody[]) {
      const ledger = createLedger(stage.context());
      return Promise.all(
        events.map((event) =>
          ledger.submit({ event: parseStripeEvent(event), rawBody: Buffer.from(JSON.stringify(event)) }),
        ),
      );
    },
    async deliver(...events: EventBody[]) {
      await stage.accept(...events);
      return projectStripeEvents(stage.context(), new AbortController().signal);
    },
    [Symbol.asyncDispose]: () => database[Symbol.asyncDispose](),
  };
  return stage;
}
