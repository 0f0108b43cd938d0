export { findBilling, findBillings, findEntitlement } from "./account.ts";
export { applyEntitlement, sweepEntitlement } from "./apply.ts";
export { type Billing, type Entitlement, judgeEntitlement } from "./entitlement.ts";
export { acceptStripeEvent } from "./ledger.ts";
export { projectStripeEvents } from "./projection.ts";
