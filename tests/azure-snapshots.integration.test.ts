import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import test from "node:test";
import { sql } from "kysely";
import { until } from "../src/core/adapters/runtime/contract.ts";
import { openAzureStage } from "./azure-stage.ts";
import { documentOf, expectCode } from "./command.ts";

test("an awake assistant on the second stamp is snapshotted, restored from it, and awake again each time", async (t) => {
  const stage = await openAzureStage(t, { env: { OPENCLAW_RUNTIME_IMAGE: "ghcr.io/openclaw/openclaw:1" } });
  const { arm, database, openclaw, stamps } = stage;
  const daemon = await stage.startDaemon();
  await daemon.saw("working");
  const owner = ["--email", "alice@example.com", "--chat", "4000", "--billing-exempt", "--stamp", "stamp-2"];
  expectCode(await openclaw("tenant", "create", "alice", ...owner), 0);
  expectCode(await openclaw("tenant", "export", "alice"), 4);
  expectCode(await openclaw("tenant", "provision", "alice", "--wait"), 0);
  const show = async () => documentOf(expectCode(await openclaw("tenant", "show", "alice", "--json"), 0));
  const [share] = arm.state.shares();
  const memory = path.join(share?.folder ?? "", "tenants", String((await show())["id"]), "memory");
  await writeFile(memory, "before");
  /** The command waits until the assistant has come to rest, which takes a minute of its time. */
  const hurried = async (...args: string[]) => {
    const done = openclaw("tenant", ...args);
    await until(async () => {
      const { rows } = await sql`SELECT FROM tenants WHERE hibernated_at IS NOT NULL`.execute(database.db);
      return rows.length > 0 ? true : undefined;
    }, "the command to put it to sleep");
    await stage.passQuietTime();
    return expectCode(await done, 0);
  };

  const exported = documentOf(await hurried("export", "alice", "--json"));
  const { snapshot, woken } = exported as { snapshot: Record<string, string>; woken: boolean };
  const { time = "", ...where } = snapshot;
  assert.deepEqual(where, { stamp: "stamp-2", storageAccount: stamps[1]?.storageAccount, share: "openclaw-state" });
  assert.equal(woken, true);
  await writeFile(memory, "after");

  const restore = ["import", "alice", "--snapshot", time];
  const dry = expectCode(await openclaw("tenant", ...restore, "--dry-run"), 0);
  assert.match(dry.stderr, /The snapshot is there\. Would do: This replaces all that the assistant of alice keeps/);
  assert.match(expectCode(await openclaw("tenant", ...restore), 2).stderr, /Nothing was changed/);
  const unknown = await openclaw("tenant", "import", "alice", "--snapshot", "2100-01-01T00:00:00Z", "--dry-run");
  assert.match(expectCode(unknown, 4).stderr, new RegExp(`no snapshot of 2100-01-01.*the newest are ${time}`));
  const older = await openclaw("tenant", "import", "alice", "--snapshot", "2020-01-01T00:00:00Z", "--dry-run");
  assert.match(expectCode(older, 5).stderr, /created on .* 2020-01-01.* has nothing of it/);
  assert.match(expectCode(await openclaw("tenant", "import", "alice", "--snapshot", "yesterday"), 2).stderr, /a time/);
  assert.equal(await readFile(memory, "utf8"), "after");

  const imported = documentOf(await hurried(...restore, "--confirm", "alice", "--wait", "--json"));
  assert.deepEqual([imported["imported"], imported["woken"], imported["snapshot"]], [true, true, snapshot]);
  assert.equal(await readFile(memory, "utf8"), "before");
  assert.equal(((await show())["runtime"] as { state: string }).state, "running");
  const events = expectCode(await openclaw("tenant", "events", "alice"), 0).stdout;
  for (const words of [/tenant\.exported.*snapshot=/, /tenant\.imported.*snapshot=/, /state\.copy/, /state\.swap/])
    assert.match(events, words);

  expectCode(await openclaw("tenant", "suspend", "alice"), 0);
  const again = expectCode(await openclaw("tenant", "export", "alice"), 0);
  assert.match(again.stdout, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z\n$/);
  assert.match(again.stderr, /The snapshot .* of the share openclaw-state on .* \(stamp stamp-2\) was taken/);
  expectCode(await openclaw("tenant", "import", "alice", "--snapshot", again.stdout.trim(), "--confirm", "alice"), 0);
  assert.deepEqual(arm.violations, []);
});
