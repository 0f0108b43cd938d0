/**
 * What a provider counted for one call. The four kinds don't overlap: `inputTokens` are those that were neither read from
 * a cache nor written to one. `cacheWriteHourTokens` are those of `cacheWriteTokens` that are kept for an hour.
 */
export type TokenUsage = {
  inputTokens: number;
  outputTokens: number;
  cacheReadTokens: number;
  cacheWriteTokens: number;
  cacheWriteHourTokens: number;
};

export const NO_USAGE: TokenUsage = {
  inputTokens: 0,
  outputTokens: 0,
  cacheReadTokens: 0,
  cacheWriteTokens: 0,
  cacheWriteHourTokens: 0,
};

/** The tokens that count against a budget: reading from a cache doesn't. */
export function countTokens({ inputTokens, outputTokens, cacheWriteTokens }: TokenUsage): number {
  return inputTokens + outputTokens + cacheWriteTokens;
}
