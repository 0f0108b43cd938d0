import { assertNever } from "../platform/errors.ts";
import type { StatusChange, Tenant } from "../tenants/tenants.ts";
import type { Entitlement } from "./entitlement.ts";

/**
 * Why a tenant is judged. `began`: it became entitled, or paid anew; only this may start what doesn't run. `ended`: its
 * subscription was cancelled. `review`: time or facts moved on; only suspends and resumes.
 */
export type Occasion = "began" | "ended" | "review";

export type StatusEffect =
  | { kind: "change"; change: StatusChange }
  | { kind: "provision-when-deleted"; value: boolean };

type Judged = Pick<Tenant, "status" | "suspendedBy" | "billingExempt" | "provisionWhenDeleted">;

/** What a judgement does to a tenant's status, if anything. Exempt tenants are never touched (F58). */
export function planStatusEffect(
  tenant: Judged,
  { entitled, reason }: Entitlement,
  occasion: Occasion,
): StatusEffect | undefined {
  if (tenant.billingExempt) return undefined;
  const ended = occasion === "ended" && !entitled;
  const began = occasion === "began" && entitled;
  switch (tenant.status) {
    case "pending":
      if (began) return change({ to: "provisioning", reason });
      return ended ? change({ to: "deprovisioning", reason }) : undefined;
    case "deleted":
      return began ? change({ to: "provisioning", reason }) : undefined;
    case "provisioning":
      // Lost entitlement short of the end waits until the tenant is active: the next sweep suspends it then.
      return ended ? change({ to: "deprovisioning", reason }) : undefined;
    case "active":
      if (entitled) return undefined;
      return change(ended ? { to: "deprovisioning", reason } : { to: "suspended", reason, suspendedBy: "billing" });
    case "suspended":
      if (ended) return change({ to: "deprovisioning", reason });
      return entitled && tenant.suspendedBy === "billing" ? change({ to: "active", reason }) : undefined;
    case "deprovisioning":
      if (began && !tenant.provisionWhenDeleted) return { kind: "provision-when-deleted", value: true };
      return !entitled && tenant.provisionWhenDeleted ? { kind: "provision-when-deleted", value: false } : undefined;
    default:
      return assertNever(tenant.status);
  }
}

function change(statusChange: StatusChange): StatusEffect {
  return { kind: "change", change: statusChange };
}
