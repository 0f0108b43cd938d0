import { createHash } from "node:crypto";
import { BUILT_IN_PRICES } from "./built-in-prices.ts";
import type { TokenUsage } from "./usage.ts";

/** Micro-USD for a million tokens: USD 3 for a million is 3,000,000. */
export type Rates = {
  input: number;
  output: number;
  cacheRead: number;
  cacheWrite: number;
  /** For caches that are kept for an hour. */
  cacheWriteHour: number;
};

export type ModelPrice = Rates & {
  /** All that a prompt can come to, in tokens. */
  contextTokens: number;
  /** All that an answer can come to, in tokens. */
  outputTokens: number;
  /** What one image can come to at most, in tokens. */
  imageTokens: number;
  /** In force for the whole call once its prompt, caches included, is longer than `aboveTokens`. */
  longPrompt?: Rates & { aboveTokens: number };
};

export type PriceTable = {
  /** Of its content: other prices are another version. */
  version: string;
  models: ReadonlyMap<string, ModelPrice>;
};

/** What a call can come to at most. */
export type Ceiling = { inputTokens: number; outputTokens: number; costMicroUsd: number };

const MILLION = 1_000_000;

/** The built-in prices with `own` over them, model by model. */
export function createPriceTable(own: Readonly<Record<string, ModelPrice>> = {}): PriceTable {
  const models = Object.entries({ ...BUILT_IN_PRICES, ...own }).sort(([one], [other]) => (one < other ? -1 : 1));
  const version = createHash("sha256").update(JSON.stringify(models)).digest("hex").slice(0, 12);
  return { version, models: new Map(models) };
}

/** A snapshot (`-20251001`, `-2025-10-01`) costs what its model costs, unless it has a price of its own. */
export function findPrice({ models }: PriceTable, model: string): ModelPrice | undefined {
  return models.get(model) ?? models.get(model.replace(/-(20\d{6}|20\d{2}-\d{2}-\d{2})$/, ""));
}

/** In whole micro-USD, rounded up once per call. */
export function costOf(usage: TokenUsage, price: ModelPrice): number {
  const promptTokens = usage.inputTokens + usage.cacheReadTokens + usage.cacheWriteTokens;
  const { longPrompt } = price;
  const rates = longPrompt !== undefined && promptTokens > longPrompt.aboveTokens ? longPrompt : price;
  const cost =
    usage.inputTokens * rates.input +
    usage.outputTokens * rates.output +
    usage.cacheReadTokens * rates.cacheRead +
    (usage.cacheWriteTokens - usage.cacheWriteHourTokens) * rates.cacheWrite +
    usage.cacheWriteHourTokens * rates.cacheWriteHour;
  return Math.ceil(cost / MILLION);
}

/** The most that so many tokens can cost, whichever of them are cached and however long the prompt turns out to be. */
export function ceilingOf(tokens: { inputTokens: number; outputTokens: number }, price: ModelPrice): Ceiling {
  const { longPrompt } = price;
  const bands = longPrompt !== undefined && tokens.inputTokens > longPrompt.aboveTokens ? [price, longPrompt] : [price];
  const costs = bands.map((rates) => {
    const dearest = Math.max(rates.input, rates.cacheRead, rates.cacheWrite, rates.cacheWriteHour);
    return Math.ceil((tokens.inputTokens * dearest + tokens.outputTokens * rates.output) / MILLION);
  });
  return { ...tokens, costMicroUsd: Math.max(...costs) };
}
