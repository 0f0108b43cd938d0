import Table from "cli-table3";
import stringWidth from "string-width";
import { toPlainText } from "../core/platform/plain-text.ts";

// Much of what is printed was written by strangers: none of it may steer the terminal.

let isDocumentPrinted = false;

/** The one JSON document of a command run with --json. */
export function printJson(document: unknown): void {
  isDocumentPrinted = true;
  process.stdout.write(`${toPlainText(JSON.stringify(document, null, 2), "\n")}\n`);
}

/** Whether a command that fails has said all that it has to say as its document. */
export function hasPrintedJson(): boolean {
  return isDocumentPrinted;
}

/** One or more lines. */
export function printLine(line: string): void {
  process.stdout.write(`${toPlainText(line, "\n\t")}\n`);
}

/** What a person should know but a script should not have to skip. */
export function say(message: string): void {
  process.stderr.write(`${toPlainText(message, "\n\t")}\n`);
}

/** Beside the output, as it is: what we have drawn ourselves for a terminal. */
export function draw(picture: string): void {
  process.stderr.write(`${picture}\n`);
}

const MIN_WIDTH = 6;
/** Cut off, moments could not be told apart. */
const TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$/;

const NO_BORDER = {
  top: "",
  "top-mid": "",
  "top-left": "",
  "top-right": "",
  bottom: "",
  "bottom-mid": "",
  "bottom-left": "",
  "bottom-right": "",
  left: "",
  "left-mid": "",
  mid: "",
  "mid-mid": "",
  right: "",
  "right-mid": "",
  middle: "  ",
};

/** A table without lines, as wide as its cells; on a terminal the widest columns give way until the table fits. */
export function printTable(head: readonly string[], content: readonly (readonly string[])[]): void {
  const rows = content.map((row) => row.map((cell) => toPlainText(cell)));
  const natural = head.map((title, column) =>
    Math.max(...[title, ...rows.map((row) => row[column] ?? "")].map((cell) => stringWidth(cell))),
  );
  const available = (process.stdout.columns ?? Number.POSITIVE_INFINITY) - 2 * (head.length - 1);
  const table = new Table({
    head: [...head],
    chars: NO_BORDER,
    style: { head: [], border: [], "padding-left": 0, "padding-right": 0 },
    colWidths: fitWidths(natural, available, (column) => rows.some((row) => TIME.test(row[column] ?? ""))),
  });
  table.push(...rows);
  for (const line of table.toString().split("\n")) printLine(line.trimEnd());
}

/** What is left of `natural` widths once the widest have given way, down to where no cell could be told from another; times last. */
function fitWidths(natural: readonly number[], available: number, isTime: (column: number) => boolean): number[] {
  const widths = [...natural];
  const flexible = widths.map((width, column) => (isTime(column) ? 0 : width));
  for (let excess = widths.reduce((sum, width) => sum + width, 0) - available; excess > 0; excess -= 1) {
    const from = Math.max(...flexible) > MIN_WIDTH ? flexible : widths;
    const widest = Math.max(...from);
    if (widest <= MIN_WIDTH) break;
    const column = from.indexOf(widest);
    widths[column] = widest - 1;
    flexible[column] = Math.min(flexible[column] ?? 0, widest - 1);
  }
  return widths;
}

/** `name: value` lines, the values aligned. */
export function printFields(fields: readonly (readonly [string, string])[]): void {
  const width = Math.max(...fields.map(([name]) => name.length));
  for (const [name, value] of fields) printLine(`${name.padEnd(width)}  ${toPlainText(value)}`);
}
