import { Command } from "commander";
import { findPrice, listPriceTables, type ModelPrice, readPriceTable } from "../../core/billing/billing.ts";
import { printJson, printTable, say } from "../output.ts";
import { loadSettings, withStore } from "../session.ts";
import { formatTime } from "../tenant/view.ts";

export function command(): Command {
  return new Command()
    .option("--versions", "the price tables that calls were counted by, instead")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw billing prices")
    .action(async ({ versions, json }) => (versions ? showVersions(json) : showPrices(json)));
}

async function showVersions(json: boolean): Promise<void> {
  await withStore(async ({ db }) => {
    const tables = await listPriceTables(db);
    if (json) return printJson({ versions: tables });
    if (tables.length === 0) return say("No model call was counted yet.");
    printTable(
      ["VERSION", "FIRST USED"],
      tables.map(({ version, firstUsedAt }) => [version, formatTime(firstUsedAt)]),
    );
  });
}

async function showPrices(json: boolean): Promise<void> {
  const { config } = await loadSettings();
  const table = await readPriceTable(config.models.pricesFile);
  const { version, models } = table;
  const { basic, plus } = config.runtime.modelsByTier;
  const tiersOf = (model: string) => [
    ...(basic.includes(model) ? ["basic"] : []),
    ...(plus.includes(model) ? ["plus"] : []),
  ];
  const missing = [...new Set([...basic, ...plus])].filter((model) => findPrice(table, model) === undefined);
  if (json) {
    const entries = [...models].map(([model, price]) => ({ model, tiers: tiersOf(model), ...price }));
    return printJson({ version, unit: "micro-USD per million tokens", models: entries, withoutPrice: missing });
  }
  printTable(
    ["MODEL", "INPUT", "OUTPUT", "CACHE READ", "WRITE 5 MIN", "WRITE 1 H", "LONG PROMPTS", "TIERS"],
    [...models].map(([model, price]) => [
      model,
      ...[price.input, price.output, price.cacheRead, price.cacheWrite, price.cacheWriteHour].map(dollars),
      describeLong(price),
      tiersOf(model).join(", ") || "–",
    ]),
  );
  say(`USD for a million tokens; version ${version}.`);
  if (missing.length > 0) say(`Without a price, and refused: ${missing.join(", ")}. Add them to OPENCLAW_PRICES_FILE.`);
}

function describeLong({ longPrompt }: ModelPrice): string {
  if (longPrompt === undefined) return "–";
  return `above ${longPrompt.aboveTokens}: ${dollars(longPrompt.input)} / ${dollars(longPrompt.output)}`;
}

function dollars(microUsd: number): string {
  return String(microUsd / 1_000_000);
}
