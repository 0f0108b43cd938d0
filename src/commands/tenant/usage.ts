import { Command } from "commander";
import { listUsageMonths, readModelUse, readTenantBudget } from "../../core/billing/billing.ts";
import { countMessages } from "../../core/router/message-count.ts";
import { getTenant } from "../../core/tenants/tenants.ts";
import { formatMicroUsd, formatUse, monthOfYear } from "../money.ts";
import { printFields, printJson, printLine, printTable } from "../output.ts";
import { withStore } from "../session.ts";

const MONTHS_SHOWN = 12;

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id")
    .option("--month <month>", "of the tenant's time zone, e.g. 2026-11; left out: this one", monthOfYear)
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw tenant usage alice --month 2026-11")
    .action(async (reference: string, { month, json }) =>
      withStore(async (store) => {
        const { id, slug, timeZone } = await getTenant(store.db, reference);
        const budget = await readTenantBudget(store, id, month);
        const messages = await countMessages(store, id, budget.month);
        const models = await readModelUse(store.db, id, budget.month);
        const months = await listUsageMonths(store.db, id, MONTHS_SHOWN);
        if (json) return printJson({ tenant: slug, timeZone, ...budget, messages, models, months });
        const { spent, allowed, reserved } = budget;
        printFields([
          ["month", `${budget.month}, ${timeZone}`],
          ["messages", `${messages.month}, ${messages.today} of them today`],
          ["tokens", formatUse(spent.tokens, allowed.tokens, String)],
          ["money", formatUse(spent.microUsd, allowed.microUsd, formatMicroUsd)],
          ["calls", `${budget.calls}`],
          ["reserved", `${reserved.tokens} tokens, ${formatMicroUsd(reserved.microUsd)} by calls under way`],
          ["stopped", budget.stop ?? "no"],
        ]);
        if (models.length === 0) return;
        printLine("");
        printTable(
          ["MODEL", "CALLS", "ASSUMED", "INPUT", "OUTPUT", "CACHE READ", "CACHE WRITE", "COST"],
          models.map((use) => [
            use.model,
            ...[use.calls, use.assumedCalls, use.inputTokens, use.outputTokens].map(String),
            ...[use.cacheReadTokens, use.cacheWriteTokens].map(String),
            formatMicroUsd(use.costMicroUsd),
          ]),
        );
      }),
    );
}
