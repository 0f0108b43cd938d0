export type Migration = { name: string; sql: string; checksum: string };
export type LedgerRow = { name: string; checksum: string; appliedAt: Date };

export type Problem = {
  kind: "edited" | "missing-file" | "out-of-order" | "duplicate-number";
  name: string;
  message: string;
};
export type MigrationPlan = { pending: Migration[]; problems: Problem[] };

/** What is left to apply, and every reason not to. `files` are in order, `ledger` in any. */
export function planMigrations(
  files: readonly Migration[],
  ledger: readonly Pick<LedgerRow, "name" | "checksum">[],
): MigrationPlan {
  const applied = new Map(ledger.map((row) => [row.name, row.checksum]));
  const known = new Set(files.map((file) => file.name));
  const newest = [...applied.keys()].sort().at(-1);
  const pending = files.filter((file) => !applied.has(file.name));
  const problems = files.flatMap((file, index): Problem[] => {
    const previous = files[index - 1];
    const checksum = applied.get(file.name);
    const found: Problem[] = [];
    if (previous && numberOf(previous.name) === numberOf(file.name)) {
      found.push(
        problem(
          "duplicate-number",
          file.name,
          `has the same number as ${previous.name}: give the newer one the next number`,
        ),
      );
    }
    if (checksum !== undefined && checksum !== file.checksum) {
      found.push(
        problem(
          "edited",
          file.name,
          "was edited after it had been applied: restore it, and put the change into a new file",
        ),
      );
    }
    if (checksum === undefined && newest !== undefined && file.name < newest) {
      found.push(
        problem("out-of-order", file.name, `comes before ${newest}, which is already applied: give it the next number`),
      );
    }
    return found;
  });
  const gone = [...applied.keys()].filter((name) => !known.has(name)).sort();
  const missing = gone.map((name) =>
    problem("missing-file", name, "was applied, but its file is gone: restore it, or deploy the release that has it"),
  );
  return { pending, problems: [...problems, ...missing] };
}

function numberOf(name: string): string {
  return name.slice(0, 4);
}

function problem(kind: Problem["kind"], name: string, what: string): Problem {
  return { kind, name, message: `Migration ${name} ${what}.` };
}
