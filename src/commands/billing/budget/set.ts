import { Command, InvalidArgumentError } from "commander";
import {
  type BudgetChange,
  readTenantBudget,
  setDefaultBudget,
  setTenantBudget,
} from "../../../core/billing/billing.ts";
import { UsageError } from "../../../core/platform/errors.ts";
import { getTenant } from "../../../core/tenants/tenants.ts";
import { formatMicroUsd, formatUse, microUsd } from "../../money.ts";
import { printJson, say } from "../../output.ts";
import { withStore } from "../../session.ts";
import { numberFrom } from "../../tenant/options.ts";

const wholeTokens = numberFrom(0, 1_000_000_000_000);

export function command(): Command {
  return new Command()
    .argument("[tenant]", "slug or id")
    .option("--tokens <count>", "a month; `default` for what others have", orWord("default", wholeTokens))
    .option("--usd <amount>", "a month; `none` for no limit in money", orWord("none", microUsd))
    .option("--default", "set what tenants without a budget of their own have")
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      "\nExamples:\n  openclaw billing budget set alice --tokens 2000000 --usd 15\n  openclaw billing budget set --default --tokens 750000",
    )
    .action(async (reference: string | undefined, { tokens, usd, default: isDefault, json }) =>
      withStore(async (store) => {
        const change: BudgetChange = {
          ...(tokens === undefined ? {} : { tokens: tokens === "default" ? null : tokens }),
          ...(usd === undefined ? {} : { microUsd: usd === "none" ? null : usd }),
        };
        if (isDefault === true) {
          const count = defaultTokens(reference, change);
          await setDefaultBudget(store, count);
          return json ? printJson({ defaultTokens: count }) : say(`Tenants have ${count} tokens a month by default.`);
        }
        if (reference === undefined) throw new UsageError("tenant_missing", "Name a tenant, or set the --default.");
        if (Object.keys(change).length === 0) throw new UsageError("budget_missing", "Give --tokens, --usd, or both.");
        const { id, slug } = await getTenant(store.db, reference);
        await setTenantBudget(store, id, change);
        const budget = await readTenantBudget(store, id);
        if (json) return printJson({ tenant: slug, ...budget });
        const { spent, allowed } = budget;
        say(`${slug}: ${formatUse(spent.tokens, allowed.tokens, String)} tokens in ${budget.month};`);
        say(`${formatUse(spent.microUsd, allowed.microUsd, formatMicroUsd)}.`);
      }),
    );
}

function defaultTokens(reference: string | undefined, { tokens, microUsd: money }: BudgetChange): number {
  if (reference === undefined && money === undefined && typeof tokens === "number") return tokens;
  throw new UsageError(
    "default_budget",
    "The default is a number of tokens: openclaw billing budget set --default --tokens 500000",
  );
}

/** A parser that takes `word` as well. Commander makes an empty text of null. */
function orWord<const Word extends string>(
  word: Word,
  parse: (text: string) => number,
): (text: string) => number | Word {
  return (text) => {
    if (text === word) return word;
    try {
      return parse(text);
    } catch (error) {
      if (!(error instanceof InvalidArgumentError)) throw error;
      throw new InvalidArgumentError(`${error.message} Or: ${word}.`);
    }
  };
}
