import Table from "cli-table3";

/** The one JSON document of a command run with --json. */
export function printJson(document: unknown): void {
  process.stdout.write(`${JSON.stringify(document, null, 2)}\n`);
}

export function printLine(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** What a person should know but a script should not have to skip. */
export function say(message: string): void {
  process.stderr.write(`${message}\n`);
}

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

/** A table without lines, as wide as its cells; on a terminal the widest column gives way until the table fits. */
export function printTable(head: readonly string[], rows: readonly (readonly string[])[]): void {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const available = (process.stdout.columns ?? Number.POSITIVE_INFINITY) - 2 * (head.length - 1);
  const excess = widths.reduce((sum, width) => sum + width, 0) - available;
  const widest = widths.indexOf(Math.max(...widths));
  if (excess > 0) widths[widest] = Math.max(8, (widths[widest] ?? 0) - excess);
  const table = new Table({
    head: [...head],
    chars: NO_BORDER,
    style: { head: [], border: [], "padding-left": 0, "padding-right": 0 },
    colWidths: widths,
  });
  table.push(...rows.map((row) => [...row]));
  for (const line of table.toString().split("\n")) printLine(line.trimEnd());
}

/** `name: value` lines, the values aligned. */
export function printFields(fields: readonly (readonly [string, string])[]): void {
  const width = Math.max(...fields.map(([name]) => name.length));
  for (const [name, value] of fields) printLine(`${name.padEnd(width)}  ${value}`);
}
