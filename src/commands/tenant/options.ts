import { InvalidArgumentError } from "commander";
import { isPlainText } from "../../core/platform/plain-text.ts";

/** Parses an option that is a whole number. */
export function wholeNumber(text: string): number {
  const number = readWhole(text);
  if (number === undefined) throw new InvalidArgumentError("It must be a whole number.");
  return number;
}

function readWhole(text: string): number | undefined {
  return /^-?[0-9]{1,16}$/.test(text) && Number.isSafeInteger(Number(text)) ? Number(text) : undefined;
}

/** A parser of whole numbers in a range, both ends included. */
export function numberFrom(min: number, max: number): (text: string) => number {
  return (text) => {
    const number = readWhole(text);
    if (number !== undefined && number >= min && number <= max) return number;
    throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
  };
}

/** Parses how many there may be at most. */
export const count = numberFrom(1, 1_000_000);

/** Parses how many seconds to wait, a day at most. */
export const patience = numberFrom(0, 86_400);

/** Parses a private chat, which has its user's id. */
export function privateChat(text: string): number {
  const id = wholeNumber(text);
  if (id <= 0) throw new InvalidArgumentError("It must be a private chat: a positive number.");
  return id;
}

/** Parses a moment, in UTC. */
export function moment(text: string): Date {
  const at = new Date(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z$/.test(text) ? text : Number.NaN);
  if (!Number.isNaN(at.getTime())) return at;
  throw new InvalidArgumentError("It must be a time such as 2026-03-01T12:00:00.0000000Z.");
}

/** Parses the address of a page. */
export function webAddress(text: string): string {
  if (/^https?:$/.test(URL.parse(text)?.protocol ?? "")) return text;
  throw new InvalidArgumentError("It must be the address of a page, e.g. https://example.com/thanks.");
}

/** Parses an option that is a JSON object. */
export function jsonObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return { ...value };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new InvalidArgumentError('It must be a JSON object, e.g. {"units":"metric"}.');
}

/** Parses text that is kept and shown to others. */
export function plainText(text: string): string {
  if (/^.{1,500}$/u.test(text) && isPlainText(text)) return text;
  throw new InvalidArgumentError("It must have 1 to 500 characters, none of them a control character.");
}

/** Collects an option that may be given several times. */
export function collect(value: string, previous: string[] = []): string[] {
  return [...previous, value];
}
