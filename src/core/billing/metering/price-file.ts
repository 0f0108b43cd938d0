import { readFile } from "node:fs/promises";
import { z } from "zod";
import { ConfigError, errorMessage } from "../../platform/errors.ts";
import { createPriceTable, type ModelPrice, type PriceTable, type Rates } from "./prices.ts";

/** USD for a million tokens, down to a micro-USD, as a whole number of those. */
const dollars = z
  .number()
  .min(0)
  .max(100_000)
  .refine((usd) => Number.isInteger(Math.round(usd * 1e9) / 1e3), "has more than six decimals")
  .transform((usd) => Math.round(usd * 1_000_000));
const tokens = z.number().int().min(1).max(100_000_000);

const ratesSchema = z.strictObject({
  input: dollars,
  output: dollars,
  cacheRead: dollars.optional(),
  cacheWrite: dollars.optional(),
  cacheWriteHour: dollars.optional(),
});

const fileSchema = z.record(
  z.string().min(1),
  z.strictObject({
    ...ratesSchema.shape,
    contextTokens: tokens,
    outputTokens: tokens,
    imageTokens: tokens.default(12_000),
    longPrompt: z.strictObject({ ...ratesSchema.shape, aboveTokens: tokens }).optional(),
  }),
);

/** What isn't said of caches costs what input costs. */
function ratesOf({ input, output, cacheRead, cacheWrite, cacheWriteHour }: z.output<typeof ratesSchema>): Rates {
  const write = cacheWrite ?? input;
  return { input, output, cacheRead: cacheRead ?? input, cacheWrite: write, cacheWriteHour: cacheWriteHour ?? write };
}

/**
 * The prices in force: the built-in ones, and over them those of `file`, a JSON object with a model each.
 * @throws ConfigError naming each mistake in the file.
 */
export async function readPriceTable(file: string | undefined): Promise<PriceTable> {
  if (file === undefined) return createPriceTable();
  const parsed = fileSchema.safeParse(await readJson(file));
  if (!parsed.success) {
    const problems = parsed.error.issues.map(
      ({ path, message }) => `${file}: ${path.join(".") || "all of it"}: ${message}`,
    );
    throw new ConfigError("prices_invalid", problems);
  }
  const own = Object.entries(parsed.data).map(([model, price]): [string, ModelPrice] => {
    const { contextTokens, outputTokens, imageTokens, longPrompt } = price;
    const sizes = { contextTokens, outputTokens, imageTokens };
    const long =
      longPrompt === undefined ? {} : { longPrompt: { aboveTokens: longPrompt.aboveTokens, ...ratesOf(longPrompt) } };
    return [model, { ...ratesOf(price), ...sizes, ...long }];
  });
  return createPriceTable(Object.fromEntries(own));
}

async function readJson(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, "utf8"));
  } catch (error) {
    throw new ConfigError("prices_unreadable", [`OPENCLAW_PRICES_FILE ${file} can't be read: ${errorMessage(error)}`], {
      cause: error,
    });
  }
}
