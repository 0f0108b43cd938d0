import { UsageError } from "../../platform/errors.ts";

/** What a cohort reaches up to: so many tenants, as `1`, or such a part of all, as `5%`. */
export type CohortSize = string;

export const DEFAULT_COHORTS: readonly CohortSize[] = ["1", "5%", "25%", "100%"];

/** Reads `1,5%,25%,100%`. @throws UsageError naming what is wrong with it. */
export function parseCohorts(text: string): CohortSize[] {
  return text.split(",").map((word) => {
    const size = word.trim();
    const [, digits = "", percent] = /^([1-9][0-9]{0,6})(%?)$/.exec(size) ?? [];
    if (digits !== "" && (percent === "" || Number(digits) <= 100)) return size;
    throw new UsageError(
      "cohorts_invalid",
      `"${size}" is no cohort: name a number of tenants or a part of them, e.g. ${DEFAULT_COHORTS.join(",")}.`,
    );
  });
}

/**
 * Where each cohort of `count` tenants ends. Those that would move nobody are left out, and what is left over at last is a cohort
 * of its own.
 */
export function cohortEnds(sizes: readonly CohortSize[], count: number): { size: CohortSize; end: number }[] {
  const cohorts: { size: CohortSize; end: number }[] = [];
  for (const size of [...sizes, "100%"]) {
    const number = Number.parseInt(size, 10);
    const end = Math.min(count, size.endsWith("%") ? Math.ceil((count * number) / 100) : number);
    if (end > (cohorts.at(-1)?.end ?? 0)) cohorts.push({ size, end });
  }
  return cohorts;
}
