import { Command } from "commander";
import { readFleetBudget, readTenantBudget } from "../../../core/billing/billing.ts";
import { getTenant } from "../../../core/tenants/tenants.ts";
import { formatMicroUsd, formatUse } from "../../money.ts";
import { printFields, printJson } from "../../output.ts";
import { withStore } from "../../session.ts";
import { formatTime } from "../../tenant/view.ts";

export function command(): Command {
  return new Command()
    .argument("[tenant]", "slug or id; left out: what holds for all")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExamples:\n  openclaw billing budget show\n  openclaw billing budget show alice")
    .action(async (reference: string | undefined, { json }) =>
      withStore(async (store) => {
        if (reference === undefined) {
          const fleet = await readFleetBudget(store.db, store.clock.now());
          return json ? printJson(fleet) : printFleet(fleet);
        }
        const { id, slug } = await getTenant(store.db, reference);
        const budget = await readTenantBudget(store, id);
        if (json) return printJson({ tenant: slug, ...budget });
        printFields([
          ["month", budget.month],
          ["tokens", formatUse(budget.spent.tokens, budget.allowed.tokens, String)],
          ["money", formatUse(budget.spent.microUsd, budget.allowed.microUsd, formatMicroUsd)],
          ["reserved", `${budget.reserved.tokens} tokens, ${formatMicroUsd(budget.reserved.microUsd)}`],
          ["token budget", budget.isExempt ? "exempt" : budget.hasOwnTokens ? "of its own" : "the default"],
          ["stopped", budget.stop ?? "no"],
        ]);
      }),
    );
}

function printFleet(fleet: Awaited<ReturnType<typeof readFleetBudget>>): void {
  printFields([
    ["month (UTC)", fleet.utcMonth],
    ["all tenants", formatUse(fleet.spentMicroUsd, fleet.allowedMicroUsd, formatMicroUsd)],
    ["reserved", formatMicroUsd(fleet.reservedMicroUsd)],
    ["calls", `${fleet.calls}, ${fleet.tokens} tokens`],
    ["a tenant's default", `${fleet.defaultTokens} tokens a month`],
    ["stopped", fleet.stoppedAt === null ? "no" : `since ${formatTime(fleet.stoppedAt)}: ${fleet.stoppedReason ?? ""}`],
  ]);
}
