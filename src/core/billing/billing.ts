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
export { type BillingLink, openCheckout, openPortal, type Prices } from "./checkout.ts";
export { createLedger } from "./ledger.ts";
export type { Refusal } from "./metering/budget.ts";
export {
  type CallEnd,
  createMeter,
  MAX_CALL_MS,
  type Meter,
  type Reservation,
  settleLostCalls,
} from "./metering/meter.ts";
export {
  type Ceiling,
  ceilingOf,
  createPriceTable,
  findPrice,
  type ModelPrice,
  type PriceTable,
} from "./metering/prices.ts";
export {
  type BudgetChange,
  readFleetBudget,
  readTenantBudget,
  setDefaultBudget,
  setFleetCap,
  setTenantBudget,
  type SpendingStop,
  spendingStopAsSql,
  stopModels,
} from "./metering/limits.ts";
export { createPayLinks, type PayLinks } from "./pay-links.ts";
export { readReport, type Report } from "./metering/report.ts";
export { keepRevenueOf } from "./metering/report-store.ts";
export { findLastModelCalls, listPriceTables, listUsageMonths, readModelUse } from "./metering/usage-report.ts";
export type { TokenUsage } from "./metering/usage.ts";
export { type BudgetWarning, claimWarnings, markWarningsTold, releaseWarnings } from "./metering/warnings.ts";
export { billingAsJson } from "./store.ts";
export type { SyncChange, SyncItem } from "./sync.ts";
export { unblockTenant } from "./unblock.ts";

/** On demand, likewise. */
export const readPriceTable: typeof import("./metering/price-file.ts").readPriceTable = async (file) => {
  const prices = await import("./metering/price-file.ts");
  return prices.readPriceTable(file);
};

/** On demand: the schema library that it reads events with takes a command longer to load than its own work takes. */
export const projectStripeEvents: typeof import("./projection.ts").projectStripeEvents = async (ctx, signal) => {
  const projection = await import("./projection.ts");
  return projection.projectStripeEvents(ctx, signal);
};

/** On demand, likewise. */
export const syncBilling: typeof import("./sync.ts").syncBilling = async (ctx, options) => {
  const sync = await import("./sync.ts");
  return sync.syncBilling(ctx, options);
};

/** On demand, likewise. */
export const syncTenants: typeof import("./sync.ts").syncTenants = async (ctx, tenantIds, options) => {
  const sync = await import("./sync.ts");
  return sync.syncTenants(ctx, tenantIds, options);
};
