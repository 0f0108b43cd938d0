export { findBilling, findBillings, findEntitlement, readBilling } from "./account.ts";
export { applyEntitlement, sweepEntitlement } from "./apply.ts";
export { type Billing, type Entitlement, judgeEntitlement } from "./entitlement.ts";
export {
  EVENT_STATUSES,
  forgetEventsOf,
  type EventSelection,
  type EventStatus,
  getEvent,
  type LedgerEvent,
  listEvents,
  pruneEvents,
  readEventPayload,
  replayEvents,
  selectReplayable,
} from "./events.ts";
export { createLedger } from "./ledger.ts";
export { billingAsJson } from "./store.ts";
export { unblockTenant } from "./unblock.ts";

/** On demand: the schema library that it reads events with takes a command longer to load than its own work takes. */
export const projectStripeEvents: typeof import("./projection.ts").projectStripeEvents = async (ctx, signal) => {
  const projection = await import("./projection.ts");
  return projection.projectStripeEvents(ctx, signal);
};
