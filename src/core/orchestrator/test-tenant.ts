import type { StampId, TenantId } from "../platform/ids.ts";
import type { Tenant } from "../tenants/tenants.ts";

const at = new Date("2026-03-01T12:00:00Z");
/** An active tenant, linked, on the tier that sleeps. */
export const EXAMPLE_TENANT: Tenant = {
  id: "11111111-2222-4333-8444-555555555555" as TenantId,
  stampId: "default" as StampId,
  slug: "alice",
  displayName: "Alice",
  email: "alice@example.com",
  telegramChatId: 4001,
  telegramUserId: 4001,
  telegramUsername: "alice",
  language: "en",
  timeZone: "UTC",
  preferences: {},
  tags: [],
  tier: "basic",
  budgetExempt: false,
  billingExempt: false,
  status: "active",
  statusReason: null,
  statusChangedAt: at,
  suspendedBy: null,
  provisioningDeadline: null,
  provisionWhenDeleted: false,
  trialEndsAt: null,
  hibernatedAt: null,
  purgeAfter: null,
  keyGeneration: 1,
  createdAt: at,
  updatedAt: at,
};
