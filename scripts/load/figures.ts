/** The value below which `share` of all lie, 0.5 for the median. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const value = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  if (value === undefined) throw new Error("there is no percentile of nothing");
  return value;
}

export function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}

/** Rounded to what a noisy machine can tell: three digits. */
export function round(value: number): number {
  return Number(value.toPrecision(3));
}
