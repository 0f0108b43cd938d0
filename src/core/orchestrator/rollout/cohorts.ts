import { UsageError } from "../../platform/errors.ts";

/** What a cohort reaches up to: so many tenants, as `1`, or such a part of all, as `5%`. */
export type CohortSize = string;

export const DEFAULT_COHORTS: readonly CohortSize[] = ["1", "5%", "25%", "100%"];

/** Reads `1,5%,25%,100%`. @throws UsageError naming what is wrong with it. */
export function parseCohorts(text: string): CohortSize[] {
  const sizes = text.split(",").map((word) => {
    const size = word.trim();
    const [, digits = "", percent] = /^([1-9][0-9]{0,6})(%?)$/.exec(size) ?? [];
    if (digits !== "" && (percent === "" || Number(digits) <= 100)) return size;
    throw invalid(`"${size}" is no cohort: name a number of tenants or a part of them`);
  });
  // Parts are compared with parts: how many tenants they are is not known yet.
  for (const ofOneKind of [sizes.filter((size) => size.endsWith("%")), sizes.filter((size) => !size.endsWith("%"))]) {
    const reach = ofOneKind.map((size) => Number.parseInt(size, 10));
    const back = reach.findIndex((end, index) => index > 0 && end <= (reach[index - 1] ?? 0));
    if (back !== -1) throw invalid(`"${ofOneKind[back]}" reaches no further than the cohort before it`);
  }
  return sizes;
}

function invalid(problem: string): UsageError {
  return new UsageError("cohorts_invalid", `${problem}, e.g. ${DEFAULT_COHORTS.join(",")}.`);
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
