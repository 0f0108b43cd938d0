import type { ObservedRuntime, Urgency } from "../adapters/runtime/runtime-driver.ts";
import type { Tenant } from "../tenants/tenants.ts";

/** What a runtime's platform is to serve first: whoever waits for a message's answer, and last what only a rollout asked for. */
export function urgencyOf(
  { status, hibernatedAt }: Pick<Tenant, "status" | "hibernatedAt">,
  { lastSeen, isMoving }: { lastSeen: ObservedRuntime["state"] | undefined; isMoving: boolean },
): Urgency {
  if (status === "provisioning") return "provision";
  const isMeantToRun = status === "active" && hibernatedAt === null;
  if (isMeantToRun && lastSeen === "asleep") return "wake";
  if (isMoving) return "rollout";
  return isMeantToRun && lastSeen === "starting" ? "wake" : "repair";
}
