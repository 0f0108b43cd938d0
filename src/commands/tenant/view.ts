import type { RuntimeStep } from "../../core/orchestrator/orchestrator.ts";
import type { Tenant } from "../../core/tenants/tenants.ts";

/** The documented JSON form of a tenant: keys in camelCase, times in ISO 8601, nothing secret. */
export function tenantDocument(tenant: Tenant) {
  return {
    id: tenant.id,
    slug: tenant.slug,
    displayName: tenant.displayName,
    email: tenant.email,
    telegram: { chatId: tenant.telegramChatId, userId: tenant.telegramUserId, username: tenant.telegramUsername },
    language: tenant.language,
    timeZone: tenant.timeZone,
    preferences: tenant.preferences,
    tags: tenant.tags,
    tier: tenant.tier,
    budgetExempt: tenant.budgetExempt,
    billingExempt: tenant.billingExempt,
    status: tenant.status,
    statusReason: tenant.statusReason,
    statusChangedAt: tenant.statusChangedAt,
    suspendedBy: tenant.suspendedBy,
    trialEndsAt: tenant.trialEndsAt,
    hibernatedAt: tenant.hibernatedAt,
    purgeAfter: tenant.purgeAfter,
    stamp: tenant.stampId,
    createdAt: tenant.createdAt,
    updatedAt: tenant.updatedAt,
  };
}

export function formatTime(at: Date | null): string {
  return at === null ? "–" : at.toISOString().replace(/\.\d+Z$/, "Z");
}

/** Such as `deferred 12 times in 48 s (correlation id 3f1c…)`: how a step ended, how long it took, and where to look further. */
export function describeStep({ outcome, times, durationMs, correlationId }: Omit<RuntimeStep, "at" | "step">): string {
  const took = durationMs < 10_000 ? `${durationMs} ms` : `${Math.round(durationMs / 1_000)} s`;
  const often = times === 1 ? "" : ` ${times} times`;
  return `${outcome}${often} in ${took}${correlationId === null ? "" : ` (correlation id ${correlationId})`}`;
}
