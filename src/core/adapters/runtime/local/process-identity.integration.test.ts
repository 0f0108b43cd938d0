import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { writeProcess, tenantPaths } from "./tenant-folder.ts";
import { identify, isAlive } from "./process-identity.ts";
import { someTenantId, untilState } from "../contract.ts";
import { onlyProcessOf, setUpLocal } from "./test-setup.ts";

test("a process is known by its start as well as its pid, and gone once it ended", async () => {
  const child = spawn("/bin/sh", ["-c", "read -r line"], { stdio: ["pipe", "ignore", "ignore"] });
  await once(child, "spawn");
  assert.ok(child.pid);
  const identity = await identify(child.pid);
  assert.ok(identity);
  assert.equal(await isAlive(identity), true);
  assert.equal(await isAlive({ ...identity, startedAt: "another start" }), false);
  child.stdin.end();
  await once(child, "exit");
  assert.equal(await isAlive(identity), false);
});

test("a stranger that got the pid of a runtime is neither taken for it nor stopped", async (t) => {
  const { driver, spec, root } = await setUpLocal(t);
  const tenantId = someTenantId();
  await driver.ensure(spec(tenantId, 1));
  await untilState(driver, tenantId, "running");
  await driver.sleep(tenantId);
  const stranger = spawn("/bin/sh", ["-c", "read -r line"], { detached: true, stdio: ["pipe", "ignore", "ignore"] });
  t.after(() => stranger.stdin.end());
  await once(stranger, "spawn");
  assert.ok(stranger.pid);
  const known = {
    pid: stranger.pid,
    startedAt: "of the runtime",
    specHash: "",
    image: "",
    failures: 0,
    lastExit: null,
  };
  await writeProcess(tenantPaths(root, tenantId), known);
  assert.equal((await driver.sleep(tenantId)).state, "asleep");
  await writeProcess(tenantPaths(root, tenantId), known);
  await driver.wake(tenantId);
  await untilState(driver, tenantId, "running");
  assert.notEqual(await onlyProcessOf(root, tenantId), stranger.pid);
  assert.ok(await identify(stranger.pid));
});
