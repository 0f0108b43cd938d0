export const TENANT_STATUSES = ["pending", "provisioning", "active", "suspended", "deprovisioning", "deleted"] as const;
export type TenantStatus = (typeof TENANT_STATUSES)[number];

/** The only ways in which a tenant's status may change. */
const TRANSITIONS: Readonly<Record<TenantStatus, Partial<Record<TenantStatus, string>>>> = {
  pending: {
    provisioning: "payment or trial begins, or an operator asks",
    deprovisioning: "subscription ended, or an operator asks",
  },
  provisioning: {
    active: "the runtime is healthy",
    pending: "the deadline passed or attempts are exhausted",
    deprovisioning: "subscription ended, or an operator asks",
  },
  active: {
    suspended: "no longer entitled, or an operator asks",
    deprovisioning: "subscription ended, or an operator asks",
  },
  suspended: {
    active: "entitled again",
    deprovisioning: "subscription ended, or an operator asks",
  },
  deprovisioning: {
    deleted: "everything is gone, verified by reading back",
  },
  deleted: {
    provisioning: "a returning subscriber, or an operator asks",
    pending: "restored without entitlement",
  },
};

export function canTransition(from: TenantStatus, to: TenantStatus): boolean {
  return TRANSITIONS[from][to] !== undefined;
}

/** Where a tenant in `from` may go, for messages. */
export function nextStatuses(from: TenantStatus): TenantStatus[] {
  return TENANT_STATUSES.filter((to) => canTransition(from, to));
}
