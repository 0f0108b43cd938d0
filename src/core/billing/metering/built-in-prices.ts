import type { ModelPrice, Rates } from "./prices.ts";

type Dollars = { input: number; output: number; cacheRead: number };

/** From USD for a million tokens, as providers publish them. */
function rates({ input, output, cacheRead }: Dollars, writeTimes: { short: number; hour: number }): Rates {
  const micro = (dollars: number) => Math.round(dollars * 1_000_000);
  return {
    input: micro(input),
    output: micro(output),
    cacheRead: micro(cacheRead),
    cacheWrite: micro(input * writeTimes.short),
    cacheWriteHour: micro(input * writeTimes.hour),
  };
}

/** Anthropic takes 1.25 times the input price for a cache of five minutes, and twice for one of an hour. */
const anthropicRates = (dollars: Dollars) => rates(dollars, { short: 1.25, hour: 2 });
/** OpenAI takes nothing for writing. */
const openAiRates = (dollars: Dollars) => rates(dollars, { short: 1, hour: 1 });

type Sizes = Pick<ModelPrice, "contextTokens" | "outputTokens" | "imageTokens">;

const CLAUDE_4: Sizes = { contextTokens: 200_000, outputTokens: 64_000, imageTokens: 1_700 };
const CLAUDE_5: Sizes = { contextTokens: 1_000_000, outputTokens: 128_000, imageTokens: 5_000 };
const GPT_4: Sizes = { contextTokens: 1_047_576, outputTokens: 32_768, imageTokens: 4_000 };
const GPT_5: Sizes = { contextTokens: 400_000, outputTokens: 128_000, imageTokens: 4_000 };
const GPT_5_LONG: Sizes = { contextTokens: 1_050_000, outputTokens: 128_000, imageTokens: 12_000 };

const anthropic = (sizes: Sizes, dollars: Dollars): ModelPrice => ({ ...anthropicRates(dollars), ...sizes });
const openai = (sizes: Sizes, dollars: Dollars): ModelPrice => ({ ...openAiRates(dollars), ...sizes });

/** As published by Anthropic (platform.claude.com, pricing) and OpenAI (developers.openai.com, models), 2026-11-22. */
export const BUILT_IN_PRICES: Readonly<Record<string, ModelPrice>> = {
  "claude-haiku-4-5": anthropic(CLAUDE_4, { input: 1, output: 5, cacheRead: 0.1 }),
  "claude-sonnet-4-5": {
    ...anthropic({ ...CLAUDE_4, contextTokens: 1_000_000 }, { input: 3, output: 15, cacheRead: 0.3 }),
    longPrompt: { aboveTokens: 200_000, ...anthropicRates({ input: 6, output: 22.5, cacheRead: 0.6 }) },
  },
  "claude-opus-4-5": anthropic(CLAUDE_4, { input: 5, output: 25, cacheRead: 0.5 }),
  "claude-sonnet-5": anthropic(CLAUDE_5, { input: 2, output: 10, cacheRead: 0.2 }),
  "claude-opus-5": anthropic(CLAUDE_5, { input: 5, output: 25, cacheRead: 0.5 }),
  "claude-haiku-5-5": {
    ...anthropic(CLAUDE_5, { input: 0.1, output: 0.5, cacheRead: 0.01 }),
    longPrompt: { aboveTokens: 100_000, ...anthropicRates({ input: 0.5, output: 2.5, cacheRead: 0.05 }) },
  },
  "claude-sonnet-5-5": anthropic(CLAUDE_5, { input: 2, output: 10, cacheRead: 0.1 }),
  "claude-opus-5-5": anthropic(CLAUDE_5, { input: 4, output: 20, cacheRead: 0.2 }),
  "gpt-4.1": openai(GPT_4, { input: 2, output: 8, cacheRead: 0.5 }),
  "gpt-4.1-mini": openai(GPT_4, { input: 0.4, output: 1.6, cacheRead: 0.1 }),
  "gpt-5": openai(GPT_5, { input: 1.25, output: 10, cacheRead: 0.125 }),
  "gpt-5-mini": openai(GPT_5, { input: 0.25, output: 2, cacheRead: 0.025 }),
  "gpt-5-nano": openai(GPT_5, { input: 0.05, output: 0.4, cacheRead: 0.005 }),
  "gpt-5.4": {
    ...openai(GPT_5_LONG, { input: 2.5, output: 15, cacheRead: 0.25 }),
    longPrompt: { aboveTokens: 272_000, ...openAiRates({ input: 5, output: 22.5, cacheRead: 0.5 }) },
  },
  "gpt-5.4-mini": openai({ ...GPT_5, imageTokens: 12_000 }, { input: 0.75, output: 4.5, cacheRead: 0.075 }),
  "gpt-5.5": {
    ...openai(GPT_5_LONG, { input: 5, output: 30, cacheRead: 0.5 }),
    longPrompt: { aboveTokens: 272_000, ...openAiRates({ input: 10, output: 45, cacheRead: 1 }) },
  },
};
