import { InvalidArgumentError } from "commander";

const MICRO_USD = 1_000_000;

/** Parses dollars, as `100` or `12.50`, into micro-USD. */
export function microUsd(text: string): number {
  const [, whole, decimals = ""] = /^(\d{1,7})(?:\.(\d{1,6}))?$/.exec(text) ?? [];
  if (whole === undefined) throw new InvalidArgumentError("It must be an amount in USD, e.g. 100 or 12.50.");
  return Number(whole) * MICRO_USD + Number(decimals.padEnd(6, "0"));
}

/** To the cent, and further where that is needed to tell it from nothing. */
export function formatMicroUsd(amount: number): string {
  const dollars = Math.abs(amount) / MICRO_USD;
  const digits = dollars > 0 && dollars < 0.01 ? 6 : 2;
  return `${amount < 0 ? "-" : ""}$${dollars.toFixed(digits)}`;
}

/** Currencies whose smallest unit is the whole, as Stripe counts them. */
const WITHOUT_CENTS = new Set("bif clp djf gnf jpy kmf krw mga pyg rwf ugx vnd vuv xaf xof xpf".split(" "));

export function formatCents(amount: number, currency: string): string {
  const shown = WITHOUT_CENTS.has(currency) ? String(amount) : (amount / 100).toFixed(2);
  return `${shown} ${currency.toUpperCase()}`;
}

/** Parses a month, as `2026-11`. */
export function monthOfYear(text: string): string {
  if (/^20\d{2}-(0[1-9]|1[0-2])$/.test(text)) return text;
  throw new InvalidArgumentError("It must be a month, e.g. 2026-11.");
}

/** How much of an allowance is used, such as `12345 of 500000 (2 %)`. */
export function formatUse(used: number, allowed: number | null, format: (amount: number) => string): string {
  if (allowed === null) return `${format(used)}, no limit`;
  const percent = allowed === 0 ? "" : ` (${Math.floor((used * 100) / allowed)} %)`;
  return `${format(used)} of ${format(allowed)}${percent}`;
}
