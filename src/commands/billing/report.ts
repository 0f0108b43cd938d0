import { Command, Option } from "commander";
import { readReport, type Report } from "../../core/billing/billing.ts";
import { formatCents, formatMicroUsd, monthOfYear } from "../money.ts";
import { printJson, printLine, printTable, say } from "../output.ts";
import { withStore } from "../session.ts";
import { count } from "../tenant/options.ts";
import { slugsOf } from "../tenant/slugs.ts";

export function command(): Command {
  return new Command()
    .option("--month <month>", "of UTC, e.g. 2026-11; left out: this one", monthOfYear)
    .option("--top <count>", "show so many tenants", count, 10)
    .option("--json", "print one JSON document, with all tenants")
    .addOption(new Option("--csv", "print a line for each tenant and currency, for spreadsheets").conflicts("json"))
    .addHelpText(
      "after",
      "\nExamples:\n  openclaw billing report --month 2026-11\n  openclaw billing report --csv > november.csv",
    )
    .action(async ({ month, top, json, csv }) =>
      withStore(async ({ db, clock }) => {
        const report = await readReport(db, month ?? clock.now().toISOString().slice(0, 7));
        const slugs = await slugsOf(db, report.tenants);
        const nameOf = (tenantId: Report["tenants"][number]["tenantId"]) => slugs.get(tenantId) ?? `purged ${tenantId}`;
        if (json) {
          const tenants = report.tenants.map((line) => ({ tenant: slugs.get(line.tenantId) ?? null, ...line }));
          return printJson({ ...report, tenants });
        }
        if (csv) return printCsv(report, nameOf);
        printReport(report);
        printTenants(report.tenants.slice(0, top), nameOf);
      }),
    );
}

type Name = (tenantId: Report["tenants"][number]["tenantId"]) => string;

function printReport({ month, revenue, cost, marginMicroUsd }: Report): void {
  say(`${month}, UTC`);
  printTable(
    ["REVENUE", "PAYMENTS", "PAID", "TAKEN BACK", "NET"],
    revenue.flatMap(({ currency, tiers, ...total }) =>
      [...tiers.map(({ tier, ...sums }) => ({ name: tier, ...sums })), { name: "all", ...total }].map((row) => [
        row.name,
        String(row.payments),
        ...[row.grossCents, row.takenBackCents, row.netCents].map((cents) => formatCents(cents, currency)),
      ]),
    ),
  );
  printLine("");
  const costs = [
    ...cost.models.map(({ model, ...sums }) => ({ name: model, ...sums })),
    ...cost.tiers.map(({ tier, ...sums }) => ({ name: tier, ...sums })),
    { name: "all", ...cost },
  ];
  printTable(
    ["MODEL COST", "CALLS", "ASSUMED", "TOKENS", "COST"],
    costs.map(({ name, calls, assumedCalls, tokens, costMicroUsd }) => [
      name,
      ...[calls, assumedCalls, tokens].map(String),
      formatMicroUsd(costMicroUsd),
    ]),
  );
  printLine("");
  printLine(
    marginMicroUsd === null
      ? "margin  not given: some revenue is in another currency than that of the cost, USD"
      : `margin  ${formatMicroUsd(marginMicroUsd)}`,
  );
  printLine("");
}

function printTenants(tenants: Report["tenants"], nameOf: Name): void {
  printTable(
    ["TENANT", "TIER", "CALLS", "TOKENS", "COST", "NET REVENUE"],
    tenants.map(({ tenantId, tier, calls, tokens, costMicroUsd, revenue }) => [
      nameOf(tenantId),
      tier,
      String(calls),
      String(tokens),
      formatMicroUsd(costMicroUsd),
      revenue.map(({ netCents, currency }) => formatCents(netCents, currency)).join(", ") || "–",
    ]),
  );
}

/** Slugs, ids and currencies hold nothing that a spreadsheet takes for a formula or a separator. */
function printCsv({ month, tenants }: Report, nameOf: Name): void {
  printLine(
    "month,tenant,tenant_id,tier,calls,assumed_calls,tokens,cost_micro_usd,currency,payments,gross_cents,taken_back_cents,net_cents",
  );
  for (const { tenantId, tier, calls, assumedCalls, tokens, costMicroUsd, revenue } of tenants) {
    const [first, ...others] = revenue;
    const start = [month, nameOf(tenantId), tenantId, tier];
    const money = (one: (typeof revenue)[number] | undefined) =>
      one === undefined
        ? ["", 0, 0, 0, 0]
        : [one.currency, one.payments, one.grossCents, one.takenBackCents, one.netCents];
    printLine([...start, calls, assumedCalls, tokens, costMicroUsd, ...money(first)].join(","));
    // Costs stand once, so that columns can be summed.
    for (const other of others) printLine([...start, 0, 0, 0, 0, ...money(other)].join(","));
  }
}
