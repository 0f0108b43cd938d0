import assert from "node:assert/strict";
import { chmod, cp, mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { packageRoot } from "../src/core/platform/package-root.ts";
import { createEmptyTestDatabase, createTestDatabase } from "../src/core/testing/database.ts";
import { documentOf, expectCode, openFolder, type Outcome } from "./command.ts";

/** The package as it is installed, with a migrations folder that a test may change. */
async function copyPackage(t: TestContext): Promise<{ root: string; migrations: string }> {
  const root = await mkdtemp(path.join(tmpdir(), "openclaw-package-"));
  t.after(() => rm(root, { recursive: true, force: true }));
  await chmod(root, 0o755);
  for (const name of ["package.json", "bin", "dist", "migrations"])
    await cp(path.join(packageRoot(), name), path.join(root, name), { recursive: true });
  await symlink(path.join(packageRoot(), "node_modules"), path.join(root, "node_modules"));
  return { root, migrations: path.join(root, "migrations") };
}

function findingsOf(outcome: Outcome): { kind: string; message: string; sql?: string }[] {
  const { findings } = documentOf(outcome);
  assert.ok(Array.isArray(findings));
  return findings;
}

test("an empty database is migrated, by four at once as by one, and then the check is content (F79)", async (t) => {
  await using database = await createEmptyTestDatabase();
  const openclaw = await openFolder(t, { DATABASE_URL: database.url });
  const before = expectCode(await openclaw("migrate", "--check", "--json"), 8);
  const files = await readdir(path.join(packageRoot(), "migrations"));
  assert.deepEqual(new Set(findingsOf(before).map(({ kind }) => kind)), new Set(["pending"]));
  assert.equal(findingsOf(before).length, files.length);
  const dry = expectCode(await openclaw("migrate", "--dry-run"), 0);
  assert.match(dry.stdout, /^-- 0001_tenants\.sql\n[^]*CREATE TABLE tenants/);

  const runs = await Promise.all(Array.from({ length: 4 }, () => openclaw("migrate", "--json")));
  const applied = runs.map((run) => documentOf(expectCode(run, 0))["applied"]);
  assert.equal(applied.flat().length, files.length);
  assert.deepEqual(new Set(applied.flat()), new Set(files));
  assert.equal(expectCode(await openclaw("migrate", "--check"), 0).stdout, "");
  assert.deepEqual(findingsOf(expectCode(await openclaw("migrate", "--check", "--json"), 0)), []);
  assert.match(expectCode(await openclaw("migrate", "--status"), 0).stdout, /0001_tenants\.sql +applied/);
  assert.match(expectCode(await openclaw("migrate"), 0).stderr, /current/);
});

test("--check, --status and --dry-run exclude one another", async (t) => {
  await using database = await createTestDatabase();
  const openclaw = await openFolder(t, { DATABASE_URL: database.url });
  expectCode(await openclaw("migrate", "--check", "--dry-run"), 2);
});

test("a file that is not applied yet is named with its SQL, and applied by migrate", async (t) => {
  await using database = await createTestDatabase();
  const { root, migrations } = await copyPackage(t);
  await writeFile(path.join(migrations, "9000_later.sql"), "CREATE TABLE later (id integer PRIMARY KEY);\n");
  const openclaw = await openFolder(t, { DATABASE_URL: database.url }, root);
  const [finding, ...others] = findingsOf(expectCode(await openclaw("migrate", "--check", "--json"), 8));
  assert.deepEqual(others, []);
  assert.equal(finding?.kind, "pending");
  assert.match(finding?.message ?? "", /9000_later\.sql/);
  assert.match(finding?.sql ?? "", /CREATE TABLE later/);
  assert.deepEqual(documentOf(expectCode(await openclaw("migrate", "--json"), 0)), { applied: ["9000_later.sql"] });
  expectCode(await openclaw("migrate", "--check"), 0);
});

test("an applied file that was edited is named, and nothing is migrated", async (t) => {
  await using database = await createTestDatabase();
  const { root, migrations } = await copyPackage(t);
  const file = path.join(migrations, "0001_tenants.sql");
  await writeFile(file, `${await readFile(file, "utf8")}\n-- a word more\n`);
  await writeFile(path.join(migrations, "9000_later.sql"), "CREATE TABLE later (id integer PRIMARY KEY);\n");
  const openclaw = await openFolder(t, { DATABASE_URL: database.url }, root);
  const outcome = expectCode(await openclaw("migrate", "--check", "--json"), 8);
  assert.match(messageOf(outcome, "edited"), /0001_tenants\.sql was edited/);
  expectCode(await openclaw("migrate"), 5);
  assert.match(expectCode(await openclaw("migrate", "--status"), 0).stdout, /9000_later\.sql +pending/);
});

test("a file that comes before one that is applied is named, and so is a number used twice (F80)", async (t) => {
  await using database = await createTestDatabase();
  const { root, migrations } = await copyPackage(t);
  await writeFile(path.join(migrations, "0002_another_branch.sql"), "CREATE TABLE other (id integer PRIMARY KEY);\n");
  const openclaw = await openFolder(t, { DATABASE_URL: database.url }, root);
  const outcome = expectCode(await openclaw("migrate", "--check", "--json"), 8);
  assert.match(messageOf(outcome, "out-of-order"), /0002_another_branch\.sql comes before/);
  assert.match(messageOf(outcome, "duplicate-number"), /same number/);
  expectCode(await openclaw("migrate"), 5);
});

test("an applied migration whose file is gone is named", async (t) => {
  await using database = await createTestDatabase();
  const { root, migrations } = await copyPackage(t);
  await rename(path.join(migrations, "0002_billing.sql"), path.join(root, "0002_billing.sql"));
  const openclaw = await openFolder(t, { DATABASE_URL: database.url }, root);
  const outcome = expectCode(await openclaw("migrate", "--check", "--json"), 8);
  assert.match(messageOf(outcome, "missing-file"), /0002_billing\.sql was applied, but its file is gone/);
});

test("a column added by hand is found with the SQL that takes it away, and taking it away is enough (F79)", async (t) => {
  await using database = await createTestDatabase();
  await database.pool.query("ALTER TABLE tenants ADD COLUMN nickname text");
  const openclaw = await openFolder(t, { DATABASE_URL: database.url });
  const outcome = expectCode(await openclaw("migrate", "--check", "--json"), 8);
  const [finding, ...others] = findingsOf(outcome);
  assert.deepEqual(others, []);
  assert.match(finding?.message ?? "", /nickname/);
  assert.match(expectCode(await openclaw("migrate", "--check"), 8).stdout, /nickname/);
  await database.pool.query(finding?.sql ?? "");
  expectCode(await openclaw("migrate", "--check"), 0);
});

test("an index dropped by hand is found with the SQL that brings it back, and bringing it back is enough (F79)", async (t) => {
  await using database = await createTestDatabase();
  await database.pool.query("DROP INDEX tenants_email_key");
  const openclaw = await openFolder(t, { DATABASE_URL: database.url });
  const [finding, ...others] = findingsOf(expectCode(await openclaw("migrate", "--check", "--json"), 8));
  assert.deepEqual(others, []);
  assert.match(finding?.sql ?? "", /CREATE UNIQUE INDEX tenants_email_key/);
  await database.pool.query(finding?.sql ?? "");
  expectCode(await openclaw("migrate", "--check"), 0);
});

test("a database that can't be reached is exit 6, also for the check", async (t) => {
  const openclaw = await openFolder(t, { DATABASE_URL: "postgres://nobody@127.0.0.1:1/none" });
  for (const option of ["--check", "--status", "--dry-run"]) expectCode(await openclaw("migrate", option), 6);
});

function messageOf(outcome: Outcome, kind: string): string {
  const found = findingsOf(outcome).find((finding) => finding.kind === kind);
  assert.ok(found, `no ${kind} in ${outcome.stdout}`);
  return found.message;
}
