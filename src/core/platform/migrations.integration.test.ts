import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { createEmptyTestDatabase, type TestDatabase } from "../testing/database.ts";
import { createPool } from "./db.ts";
import { ConfigError, ConflictError, UpstreamError } from "./errors.ts";
import { checkSchema, isLedgerCurrent, migrate, migrationStatus, readMigrations } from "./migrations.ts";
import { packageRoot } from "./package-root.ts";

const OURS = path.join(packageRoot(), "migrations");

const FILES = {
  "0001_people.sql": "CREATE TABLE people (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);",
  "0002_age.sql": "ALTER TABLE people ADD COLUMN age integer;\nCREATE INDEX people_age_idx ON people (age);",
};

/** An empty database and a folder with `files` in it; `write` changes the folder. */
async function createSite(files: Record<string, string> = FILES) {
  const database = await createEmptyTestDatabase();
  const dir = await mkdtemp(path.join(tmpdir(), "migrations-"));
  const write = async (changes: Record<string, string>) => {
    for (const [name, text] of Object.entries(changes)) await writeFile(path.join(dir, name), text);
  };
  await write(files);
  return {
    ...database,
    dir,
    write,
    check: () => checkSchema({ pool: database.pool, url: database.url, dir }),
    async [Symbol.asyncDispose]() {
      await rm(dir, { recursive: true });
      await database[Symbol.asyncDispose]();
    },
  };
}

/** A role that may read `site`, with a pool of its own; disposing of it drops the role. */
async function createRole(site: TestDatabase, attribute: string) {
  const name = `${new URL(site.url).pathname.slice(1)}_role`;
  await site.pool.query(
    `CREATE ROLE ${name} LOGIN PASSWORD 'secret' ${attribute}; GRANT SELECT ON schema_migrations TO ${name}`,
  );
  const url = Object.assign(new URL(site.url), { username: name, password: "secret" }).href;
  const pool = createPool({ url, max: 2, applicationName: "test", onIdleError: () => undefined });
  return {
    name,
    url,
    pool,
    async [Symbol.asyncDispose]() {
      await pool.end();
      await site.pool.query(`DROP OWNED BY ${name}; DROP ROLE ${name}`);
    },
  };
}

test("our own migrations apply to an empty database, and leave nothing to do or to find (F79)", async () => {
  await using site = await createEmptyTestDatabase();
  assert.equal(await isLedgerCurrent(site.pool, OURS), false);
  const names = (await readMigrations(OURS)).map(({ name }) => name);
  assert.deepEqual(await migrate(site.pool, OURS), { applied: names });
  assert.deepEqual(await migrate(site.pool, OURS), { applied: [] });
  assert.equal(await isLedgerCurrent(site.pool, OURS), true);
  assert.deepEqual(await checkSchema({ pool: site.pool, url: site.url, dir: OURS }), []);
  const { rows } = await site.pool.query("SELECT to_regproc('graphile_worker.add_job') IS NOT NULL AS installed");
  assert.deepEqual(rows, [{ installed: true }]);
});

test("runs at the same time apply every file once", async () => {
  await using site = await createSite();
  const runs = await Promise.all([
    migrate(site.pool, site.dir),
    migrate(site.pool, site.dir),
    migrate(site.pool, site.dir),
  ]);
  assert.deepEqual(runs.flatMap(({ applied }) => applied).sort(), Object.keys(FILES));
});

test("a run that waits for another can be called off", async () => {
  await using site = await createSite();
  const holder = await site.pool.connect();
  try {
    await holder.query("SELECT pg_advisory_lock(5318008101)");
    await assert.rejects(migrate(site.pool, site.dir, { signal: AbortSignal.abort() }), { name: "AbortError" });
    assert.equal(await isLedgerCurrent(site.pool, site.dir), false);
  } finally {
    holder.release(true);
  }
});

test("a file that fails leaves nothing half done, keeps those before it, and is named with the line", async () => {
  await using site = await createSite({
    ...FILES,
    "0003_broken.sql": "CREATE TABLE half ();\nCREATE TABLE\n  people ();",
  });
  await assert.rejects(migrate(site.pool, site.dir), (error) => {
    assert.ok(error instanceof ConflictError);
    assert.match(error.message, /0003_broken\.sql.*relation "people" already exists/);
    return true;
  });
  const states = await migrationStatus(site.pool, site.dir);
  assert.deepEqual(
    states.map(({ name, state }) => `${name} ${state}`),
    ["0001_people.sql applied", "0002_age.sql applied", "0003_broken.sql pending"],
  );
  assert.deepEqual((await site.pool.query("SELECT to_regclass('half') AS half")).rows, [{ half: null }]);

  await site.write({ "0003_broken.sql": "CREATE TABLE other ();\nCREAT TABLE typo ();" });
  await assert.rejects(migrate(site.pool, site.dir), /0003_broken\.sql, line 2 failed: syntax error/);
  await site.write({ "0003_broken.sql": "CREATE TABLE mended ();" });
  assert.deepEqual(await migrate(site.pool, site.dir), { applied: ["0003_broken.sql"] });
});

test("nothing is applied while files and ledger don't fit (F80)", async () => {
  await using site = await createSite();
  await migrate(site.pool, site.dir);
  await site.write({
    "0001_people.sql": "-- edited",
    "0003_more.sql": "CREATE TABLE more ();",
    "0003_mehr.sql": "SELECT 1;",
  });
  await assert.rejects(migrate(site.pool, site.dir), (error) => {
    assert.ok(error instanceof ConflictError);
    assert.match(error.message, /0001_people\.sql was edited/);
    assert.match(error.message, /0003_more\.sql has the same number as 0003_mehr\.sql/);
    return true;
  });
  const states = (await migrationStatus(site.pool, site.dir)).map(({ name, state }) => `${name} ${state}`);
  assert.deepEqual(states, [
    "0001_people.sql edited",
    "0002_age.sql applied",
    "0003_mehr.sql pending",
    "0003_more.sql pending",
  ]);
  assert.equal(await isLedgerCurrent(site.pool, site.dir), false);
});

test("the check lists what is pending with its SQL, and an applied file that is gone", async () => {
  await using site = await createSite();
  await migrate(site.pool, site.dir);
  await site.write({ "0003_more.sql": "CREATE TABLE more ();" });
  await rm(path.join(site.dir, "0002_age.sql"));
  const findings = await site.check();
  assert.deepEqual(
    findings.map(({ kind, sql }) => [kind, sql]),
    [
      ["missing-file", undefined],
      ["pending", "CREATE TABLE more ();"],
    ],
  );
});

test("an edited file is found together with what it makes differ (F79)", async () => {
  await using site = await createSite();
  await migrate(site.pool, site.dir);
  await site.write({
    "0002_age.sql": "ALTER TABLE people ADD COLUMN age bigint; CREATE INDEX people_age_idx ON people (age);",
  });
  const findings = await site.check();
  assert.deepEqual(
    findings.map(({ kind }) => kind),
    ["edited", "drift"],
  );
  assert.match(findings[1]?.sql ?? "", /ALTER TABLE people ALTER COLUMN age TYPE bigint/);
  await site.write({ "0002_age.sql": "nonsense" });
  assert.match((await site.check())[1]?.message ?? "", /0002_age\.sql, line 1 failed/);
});

test("the shadow database is dropped, whatever the check finds", async () => {
  await using site = await createSite();
  await migrate(site.pool, site.dir);
  // A role of its own tells this test's shadows from those of tests that run at the same time.
  await using role = await createRole(site, "CREATEDB");
  const options = { pool: role.pool, url: role.url, dir: site.dir };
  assert.deepEqual(await checkSchema(options), []);
  await site.write({ "0002_age.sql": "nonsense" });
  assert.equal((await checkSchema(options)).length, 2);
  const left = await site.pool.query("SELECT FROM pg_database WHERE pg_get_userbyid(datdba) = $1", [role.name]);
  assert.equal(left.rowCount, 0);
});

test("shadow databases left behind by killed checks are dropped after an hour", async () => {
  await using site = await createSite();
  await site.pool.query("CREATE DATABASE openclaw_shadow_1000_abcdef");
  assert.deepEqual(
    (await site.check()).map(({ kind }) => kind),
    ["pending", "pending"],
  );
  const left = await site.pool.query("SELECT datname FROM pg_database WHERE datname = 'openclaw_shadow_1000_abcdef'");
  assert.deepEqual(left.rows, []);
});

test("a role that may not create databases is told to give one, which is used and left empty", async () => {
  await using site = await createSite({
    ...FILES,
    "0003_jobs.sql": "CREATE VIEW waiting AS SELECT count(*) FROM graphile_worker.jobs;",
  });
  await using shadow = await createEmptyTestDatabase();
  await migrate(site.pool, site.dir);
  await using role = await createRole(site, "NOCREATEDB");
  const options = { pool: role.pool, url: role.url, dir: site.dir };
  await assert.rejects(
    checkSchema(options),
    (error) => error instanceof ConfigError && error.message.includes("OPENCLAW_SHADOW_DATABASE_URL"),
  );
  assert.deepEqual(await checkSchema({ ...options, shadowUrl: shadow.url }), []);
  const made = await shadow.pool.query(
    "SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace UNION ALL SELECT nspname FROM pg_namespace WHERE nspname LIKE 'graphile%'",
  );
  assert.deepEqual(made.rows, []);
  await assert.rejects(
    checkSchema({ ...options, shadowUrl: site.url }),
    (error) => error instanceof ConfigError && /not empty/.test(error.message),
  );
  assert.equal((await site.pool.query("SELECT count(*) AS count FROM waiting")).rowCount, 1);
});

test("a database that can't be reached is an outside service's failure, and the message holds no password", async () => {
  const pool = createPool({
    url: "postgres://u:hunter2@127.0.0.1:1/x",
    max: 1,
    applicationName: "test",
    onIdleError: () => undefined,
  });
  for (const attempt of [() => migrate(pool, OURS), () => isLedgerCurrent(pool, OURS)]) {
    await assert.rejects(attempt, (error) => {
      assert.ok(error instanceof UpstreamError);
      assert.equal(error.service, "postgres");
      assert.doesNotMatch(error.message, /hunter2/);
      return true;
    });
  }
});

test("a file whose name has no number is refused, and one that isn't SQL is passed over", async () => {
  await using site = await createSite({ "README.md": "-", "0001_a.sql": "SELECT 1;" });
  assert.deepEqual(
    (await readMigrations(site.dir)).map(({ name }) => name),
    ["0001_a.sql"],
  );
  await site.write({ "later.sql": "" });
  await assert.rejects(readMigrations(site.dir), /Migration later\.sql: name it like/);
});
