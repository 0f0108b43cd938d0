import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import path from "node:path";
import test from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import {
  findEmbeddedPostgres,
  startEmbeddedPostgres,
  stopEmbeddedPostgres,
} from "../src/core/platform/embedded-postgres.ts";
import { expectCode, openFolder, temporaryFolder } from "./command.ts";
import { call, startDaemon } from "./daemon-process.ts";

const WAIT_MS = 30_000;

async function until(condition: () => Promise<boolean>, what: string): Promise<void> {
  for (const deadline = performance.now() + WAIT_MS; !(await condition()); await delay(50)) {
    if (performance.now() > deadline) throw new Error(`it does not come about that ${what}`);
  }
}

test("a daemon starts its killed embedded database again where it was, before and after it is migrated (F81)", async (t) => {
  const dataDir = path.join(await temporaryFolder(t), "data");
  const { url } = await startEmbeddedPostgres({ dataDir, fsync: false });
  const pidOf = async () =>
    Number((await readFile(path.join(dataDir, "postgres", "data", "postmaster.pid"), "utf8")).split("\n", 1)[0]);
  const killDatabase = async () => {
    const pid = await pidOf();
    process.kill(pid, "SIGKILL");
    await until(async () => {
      const found = await findEmbeddedPostgres({ dataDir });
      if (found !== undefined && (await pidOf()) !== pid) assert.equal(found.url, url);
      return found !== undefined && (await pidOf()) !== pid;
    }, "another server is there");
  };
  try {
    const daemon = await startDaemon(t, { OPENCLAW_DATA_DIR: dataDir });
    const readiness = async () => (await call(`${daemon.publicUrl}/readyz`)).json.error?.message ?? "ready";
    const isUnmigrated = async () => /openclaw migrate/.test(await readiness());
    await until(isUnmigrated, "it waits for the migrations");
    await killDatabase();
    await until(isUnmigrated, "it waits for the migrations again");
    const openclaw = await openFolder(t, { OPENCLAW_DATA_DIR: dataDir });
    expectCode(await openclaw("migrate"), 0);
    await daemon.saw("working");
    await killDatabase();
    await until(async () => (await readiness()) === "ready", "it is ready again");
    daemon.child.kill("SIGTERM");
    assert.equal(await daemon.exit, 0);
  } finally {
    await stopEmbeddedPostgres({ dataDir });
  }
});
