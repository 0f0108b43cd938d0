import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import pg from "pg";
import { ConfigError } from "./errors.ts";
import { findEmbeddedPostgres, startEmbeddedPostgres, stopEmbeddedPostgres } from "./embedded-postgres.ts";

let parent: string;
let dataDir: string;
let urls: string[];

before(async () => {
  parent = await mkdtemp(path.join(tmpdir(), "embedded-test-"));
  // Started by root, PostgreSQL runs as somebody else, who must be able to get there.
  await chmod(parent, 0o755);
  dataDir = path.join(parent, "data");
  urls = await Promise.all([startInAnotherProcess(), startInAnotherProcess()]);
});

after(async () => {
  await stopEmbeddedPostgres({ dataDir });
  await rm(parent, { recursive: true });
});

async function startInAnotherProcess(): Promise<string> {
  const module = JSON.stringify(path.join(import.meta.dirname, "embedded-postgres.ts"));
  const script = `import { startEmbeddedPostgres } from ${module};
    console.log((await startEmbeddedPostgres({ dataDir: ${JSON.stringify(dataDir)}, fsync: false })).url);`;
  const child = spawn(process.execPath, ["--input-type=module-typescript", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text) => (output += text));
  const [code] = await once(child, "close");
  assert.equal(code, 0);
  return output.trim();
}

async function query<Row extends pg.QueryResultRow>(url: string, sql: string): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Row>(sql)).rows;
  } finally {
    await client.end();
  }
}

async function readPid(): Promise<number> {
  return Number((await readFile(path.join(dataDir, "postgres/data/postmaster.pid"), "utf8")).split("\n", 1)[0]);
}

test("two processes that start it at once share one server, which outlives both", async () => {
  const [first, second] = urls;
  assert.ok(first);
  assert.equal(second, first);
  assert.deepEqual(await findEmbeddedPostgres({ dataDir }), { url: first });
  assert.deepEqual(await query(first, "SELECT current_database() AS name, lower('ÄÖ') AS folded"), [
    { name: "openclaw", folded: "äö" },
  ]);
});

test("only its own user can read the password, and a wrong one is refused", async () => {
  const { url } = await startEmbeddedPostgres({ dataDir });
  assert.equal((await stat(path.join(dataDir, "postgres/state.json"))).mode & 0o077, 0);
  const wrong = new URL(url);
  wrong.password = "guess";
  await assert.rejects(query(wrong.href, "SELECT 1"), /password authentication failed/);
});

test("it starts again with its data and its port after it was killed", async () => {
  const { url } = await startEmbeddedPostgres({ dataDir });
  await query(url, "CREATE TABLE kept AS SELECT 42 AS answer");
  await query(url, "CHECKPOINT");
  process.kill(await readPid(), "SIGKILL");
  while (await findEmbeddedPostgres({ dataDir })) await setImmediate();
  const again = await startEmbeddedPostgres({ dataDir, fsync: false });
  assert.equal(again.url, url);
  assert.deepEqual(await query(url, "SELECT answer FROM kept"), [{ answer: 42 }]);
});

test("it isn't found once it was stopped, and stopping it twice is no error", async () => {
  await stopEmbeddedPostgres({ dataDir });
  assert.equal(await findEmbeddedPostgres({ dataDir }), undefined);
  await stopEmbeddedPostgres({ dataDir });
});

test("a process id that belongs to another program by now doesn't keep it from starting", async () => {
  await stopEmbeddedPostgres({ dataDir });
  const file = path.join(dataDir, "postgres/data/postmaster.pid");
  await writeFile(file, `${process.pid}\n${dataDir}/postgres/data\n1\n1\n\n127.0.0.1\n\nready   \n`);
  assert.equal(await findEmbeddedPostgres({ dataDir }), undefined);
  const { url } = await startEmbeddedPostgres({ dataDir, fsync: false });
  assert.deepEqual(await query(url, "SELECT 1 AS one"), [{ one: 1 }]);
});

test("it comes back at its own port, where others look for it, and says so while a stranger has taken that", async () => {
  const { url } = await startEmbeddedPostgres({ dataDir, fsync: false });
  await stopEmbeddedPostgres({ dataDir });
  const stranger = createServer().listen(Number(new URL(url).port), "127.0.0.1");
  await once(stranger, "listening");
  try {
    const { port } = new URL(url);
    await assert.rejects(startEmbeddedPostgres({ dataDir, fsync: false }), (error) => {
      assert.ok(error instanceof ConfigError);
      assert.match(error.message, new RegExp(`port ${port} .*taken by another program.*${dataDir}.*state.json`));
      return true;
    });
  } finally {
    stranger.close();
    await once(stranger, "close");
  }
  assert.equal((await startEmbeddedPostgres({ dataDir, fsync: false })).url, url);
  assert.deepEqual(await query(url, "SELECT 1 AS one"), [{ one: 1 }]);
});
