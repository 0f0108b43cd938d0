import assert from "node:assert/strict";
import { test } from "node:test";
import { type Migration, planMigrations } from "./migration-plan.ts";

function file(name: string, sql = `-- ${name}`): Migration {
  return { name, sql, checksum: `sum of ${sql}` };
}

const one = file("0001_one.sql");
const two = file("0002_two.sql");
const three = file("0003_three.sql");

function kinds(files: Migration[], ledger: Migration[]): string[] {
  return planMigrations(files, ledger).problems.map(({ kind, name }) => `${kind} ${name}`);
}

test("files that the ledger doesn't know are pending, in order", () => {
  assert.deepEqual(planMigrations([one, two, three], [one]), { pending: [two, three], problems: [] });
  assert.deepEqual(planMigrations([one, two], [two, one]), { pending: [], problems: [] });
});

test("a file edited after it was applied is a problem", () => {
  assert.deepEqual(kinds([file("0001_one.sql", "changed"), two], [one]), ["edited 0001_one.sql"]);
});

test("a pending file before an applied one is a problem (F80)", () => {
  assert.deepEqual(kinds([one, two, three], [one, three]), ["out-of-order 0002_two.sql"]);
});

test("an applied file that is gone is a problem", () => {
  assert.deepEqual(kinds([one], [one, two]), ["missing-file 0002_two.sql"]);
});

test("two files of the same number are a problem, applied or not (F80)", () => {
  const other = file("0002_zwei.sql");
  assert.deepEqual(kinds([one, two, other], []), ["duplicate-number 0002_zwei.sql"]);
  assert.deepEqual(kinds([one, two, other], [one, two, other]), ["duplicate-number 0002_zwei.sql"]);
});
