import { Command } from "commander";
import { findBilling, findEntitlement } from "../../core/billing/billing.ts";
import { getTenant } from "../../core/tenants/tenants.ts";
import { printFields, printJson } from "../output.ts";
import { withStore } from "../session.ts";
import { formatTime } from "../tenant/view.ts";

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw billing show alice")
    .action(async (reference: string, { json }) =>
      withStore(async ({ db, clock }) => {
        const { id, slug, tier, billingExempt, trialEndsAt } = await getTenant(db, reference);
        const billing = await findBilling(db, id);
        const entitlement = await findEntitlement(db, id, clock.now());
        if (json)
          return printJson({ tenant: slug, tier, billingExempt, trialEndsAt, entitlement, billing: billing ?? null });
        const subscription = billing?.subscription;
        printFields([
          ["entitled", `${entitlement.entitled ? "yes" : "no"}: ${entitlement.reason}`],
          ["tier", tier],
          ["exempt", billingExempt ? "yes" : "no"],
          ["trial until", formatTime(trialEndsAt)],
          ["customer", billing?.stripeCustomerId ?? "–"],
          [
            "subscription",
            subscription === undefined ? "–" : `${subscription.id}, ${subscription.status ?? "not heard of yet"}`,
          ],
          ["price", subscription?.priceId ?? "–"],
          ["period ends", formatTime(subscription?.currentPeriodEnd ?? null)],
          ["canceled", subscription?.cancelAtPeriodEnd === true ? "at the end of the period" : "no"],
          ["last paid", formatTime(subscription?.lastPaidAt ?? null)],
          ["failed", formatTime(subscription?.paymentFailedAt ?? null)],
          ["next attempt", formatTime(subscription?.nextPaymentAttempt ?? null)],
          ["blocked by", billing?.blockedChargeId ?? "–"],
        ]);
      }),
    );
}
