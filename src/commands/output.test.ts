import assert from "node:assert/strict";
import { once } from "node:events";
import { spawn } from "node:child_process";
import path from "node:path";
import { text } from "node:stream/consumers";
import test from "node:test";
import stringWidth from "string-width";

const HEAD = ["SLUG", "WHY", "MORE"];
const ROWS = [
  ["alice", "日本語の理由がここにあります", "long ".repeat(20).trim()],
  ["bob", "e\u0301 combined, and a long reason", "x"],
];

/** What is printed on a terminal of so many columns; undefined: off a terminal. */
async function print(columns: number | undefined, head = HEAD, rows = ROWS): Promise<string[]> {
  const script = `import { printTable } from ${JSON.stringify(path.join(import.meta.dirname, "output.ts"))};
    Object.defineProperty(process.stdout, "columns", { value: ${columns} });
    printTable(${JSON.stringify(head)}, ${JSON.stringify(rows)});`;
  const child = spawn(process.execPath, ["--input-type=module-typescript", "-e", script]);
  const [printed, [code]] = await Promise.all([text(child.stdout), once(child, "close")]);
  assert.equal(code, 0);
  return printed.trimEnd().split("\n");
}

test("off a terminal no cell is cut, and columns stay aligned under wide and combined characters", async () => {
  const [head = "", ...lines] = await print(undefined);
  assert.deepEqual(
    lines.map((line) => line.split(/ {2,}/)),
    ROWS,
  );
  for (const [index, line] of lines.entries()) {
    for (const column of [1, 2]) {
      const cell = ROWS[index]?.[column] ?? "";
      assert.equal(stringWidth(line.slice(0, line.lastIndexOf(cell))), head.indexOf(HEAD[column] ?? ""), line);
    }
  }
});

test("on a terminal a table fits, as many columns as have to giving way", async () => {
  for (const columns of [100, 60, 40, 24, 22]) {
    const lines = await print(columns);
    assert.equal(lines.length, 3);
    for (const line of lines) assert.ok(stringWidth(line) <= columns, `${columns}: ${line}`);
    assert.ok(lines[1]?.startsWith("alice"));
  }
});

test("times give way last", async () => {
  const at = "2026-03-01T12:00:00Z";
  const [, wide = ""] = await print(
    80,
    ["AT", "WHAT", "WHY"],
    [[at, "what ".repeat(20).trim(), "why ".repeat(20).trim()]],
  );
  assert.ok(wide.startsWith(`${at}  what`), wide);
  const [, narrow = ""] = await print(24, ["AT", "WHAT", "WHY"], [[at, "what happened", "why it did"]]);
  assert.ok(stringWidth(narrow) <= 24, narrow);
});
