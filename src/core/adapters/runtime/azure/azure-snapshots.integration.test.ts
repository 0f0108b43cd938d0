import assert from "node:assert/strict";
import { chmod, mkdir, readdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { ConflictError, NotFoundError, UpstreamError } from "../../../platform/errors.ts";
import type { TenantId } from "../../../platform/ids.ts";
import type { RuntimeSteps } from "../../../platform/schema.ts";
import { someTenantId, untilState } from "../contract.ts";
import { STATE_SHARE } from "./names.ts";
import { setUpAzure } from "./test-setup.ts";

/** A tenant that sleeps, and its state on the share; `write` and `read` are its runtime's. */
async function setUpSleeping(t: TestContext, stamp = 0) {
  const bench = await setUpAzure(t);
  const driver = bench.openDriver();
  const where = bench.stamps[stamp];
  assert.ok(where);
  const { id: stampId, storageAccount: account, acrServer } = where;
  const addTenant = async (): Promise<TenantId> => {
    const tenantId = someTenantId();
    await bench.seedSecrets(tenantId, stampId);
    await driver.ensure(bench.spec(tenantId, 1, { stampId, image: `${acrServer}/openclaw:1` }));
    await untilState(driver, tenantId, "running");
    await driver.sleep(tenantId);
    return tenantId;
  };
  const tenantId = await addTenant();
  const share = bench.arm.state.shares().find((one) => one.account === account)?.folder;
  assert.ok(share);
  const folder = path.join(share, "tenants", tenantId);
  const file = path.join(folder, "memory");
  return {
    ...bench,
    driver,
    snapshots: bench.openSnapshots(),
    tenantId,
    addTenant,
    account,
    share,
    folder,
    write: (text: string) => writeFile(file, text),
    read: () => readFile(file, "utf8"),
    listTenants: () => readdir(path.dirname(folder)),
    stepsOf: async (step: string): Promise<RuntimeSteps["outcome"][]> => {
      const rows = await bench.database.db
        .selectFrom("runtimeSteps")
        .select("outcome")
        .where("step", "=", step)
        .orderBy("id")
        .execute();
      return rows.map(({ outcome }) => outcome);
    },
  };
}

const isJobStart = ({ method, path: to }: { method: string; path: string }) =>
  method === "POST" && to.endsWith("/start");

/** The last of the restoration's two runs is about to be made. */
const isSwapMade = ({ method, path: to, body }: { method: string; path: string; body: unknown }) =>
  method === "PUT" && to.includes("/jobs/") && JSON.stringify(body).includes(".replaced-$RUN");

test("a snapshot is taken only while the runtime sleeps, and the state comes back from it, and nobody else's (F42)", async (t) => {
  const stage = await setUpSleeping(t);
  const { snapshots, driver, tenantId, folder, write, read, account } = stage;
  const other = await stage.addTenant();
  const others = path.join(path.dirname(folder), other, "memory");
  await write("before");
  await writeFile(others, "before");
  await mkdir(path.join(folder, "empty"));
  await writeFile(path.join(folder, "a name\nof two lines"), "");
  await writeFile(path.join(folder, "script"), "run");
  await chmod(path.join(folder, "script"), 0o711);
  await symlink("memory", path.join(folder, "link"));
  await driver.wake(tenantId);
  await assert.rejects(snapshots.take(tenantId), { name: ConflictError.name, code: "runtime_awake" });
  await driver.sleep(tenantId);
  const snapshot = await snapshots.take(tenantId);
  assert.match(snapshot.time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z$/);
  const { time: _time, ...where } = snapshot;
  assert.deepEqual(where, { stampId: "default", storageAccount: account, share: STATE_SHARE });
  assert.deepEqual(await snapshots.get(tenantId, new Date(snapshot.time)), snapshot);

  await write("after");
  await writeFile(others, "after");
  await rm(path.join(folder, "link"));
  await writeFile(path.join(folder, "later"), "");
  await snapshots.restore(tenantId, snapshot);
  assert.equal(await read(), "before");
  assert.equal(await readFile(others, "utf8"), "after");
  assert.deepEqual((await readdir(folder)).toSorted(), ["a name\nof two lines", "empty", "link", "memory", "script"]);
  assert.deepEqual((await stage.listTenants()).toSorted(), [tenantId, other].toSorted());
  assert.deepEqual([await stage.stepsOf("state.snapshot"), await stage.stepsOf("state.swap")], [["done"], ["done"]]);
  await driver.wake(tenantId);
  await untilState(driver, tenantId, "running");
  await assert.rejects(snapshots.restore(tenantId, snapshot), { code: "runtime_awake" });
  assert.deepEqual(stage.arm.violations, []);
});

test("a tenant of the second stamp has its snapshots on that one's share", async (t) => {
  const { snapshots, tenantId, account, arm, write, read } = await setUpSleeping(t, 1);
  await write("before");
  const snapshot = await snapshots.take(tenantId);
  assert.deepEqual([snapshot.stampId, snapshot.storageAccount], ["stamp-2", account]);
  assert.deepEqual(
    arm.state.shares().map((share) => [share.account === account, share.snapshots.size]),
    [[true, 1]],
  );
  await write("after");
  await snapshots.restore(tenantId, snapshot);
  assert.equal(await read(), "before");
});

test("a removed runtime's state is snapshotted and restored as it lies, and what never ran has none", async (t) => {
  const { snapshots, driver, tenantId, write, read } = await setUpSleeping(t);
  await write("before");
  await driver.remove(tenantId);
  const snapshot = await snapshots.take(tenantId);
  await write("after");
  await snapshots.restore(tenantId, snapshot);
  assert.equal(await read(), "before");
  await assert.rejects(snapshots.take(someTenantId()), { name: NotFoundError.name, code: "state_absent" });
});

test("an unknown snapshot is refused naming those that there are, and so is one more than a share allows", async (t) => {
  const { snapshots, tenantId, arm } = await setUpSleeping(t);
  const wanted = new Date("2020-01-01T00:00:00Z");
  await assert.rejects(snapshots.get(tenantId, wanted), /no snapshot of 2020-01-01T00:00:00\.0000000Z; it has none at/);
  const { time } = await snapshots.take(tenantId);
  await assert.rejects(snapshots.get(tenantId, wanted), new RegExp(`the newest are ${time}`));
  const [share] = arm.state.shares();
  assert.ok(share);
  for (let year = 1_000; share.snapshots.size < 200; year += 1)
    share.snapshots.set(`${year}-01-01T00:00:00.0000000Z`, { folder: "" });
  await assert.rejects(snapshots.take(tenantId), { code: "snapshots_full", message: /200 snapshots.*az storage/ });
  share.snapshots.delete("1000-01-01T00:00:00.0000000Z");
  await snapshots.take(tenantId);
});

test("a snapshot that has nothing of the tenant leaves its state as it is", async (t) => {
  const { snapshots, tenantId, addTenant, share, read, write, stepsOf } = await setUpSleeping(t);
  const early = await snapshots.take(tenantId);
  const later = await addTenant();
  const memory = path.join(share, "tenants", later, "memory");
  await writeFile(memory, "kept");
  await assert.rejects(snapshots.restore(later, early), {
    name: UpstreamError.name,
    code: "snapshot_not_copied",
    message: /is as it was.*nothing of this tenant/,
  });
  assert.equal(await readFile(memory, "utf8"), "kept");
  assert.deepEqual([await stepsOf("state.copy"), await stepsOf("state.swap")], [["failed"], []]);
  await write("after");
  await rm(path.join(share, ".snapshots", early.time, "tenants", tenantId), { recursive: true });
  await assert.rejects(snapshots.restore(tenantId, early), { code: "snapshot_not_copied" });
  assert.equal(await read(), "after");
});

test("a restoration that fails while it copies leaves the old state, one that fails while it swaps goes on, and a repeated one is the same", async (t) => {
  const { snapshots, tenantId, arm, write, read, listTenants, stepsOf } = await setUpSleeping(t);
  await write("before");
  const snapshot = await snapshots.take(tenantId);
  await write("after");
  const refused = { status: 500, code: "InternalServerError" };
  arm.failNext(isJobStart, refused);
  await assert.rejects(snapshots.restore(tenantId, snapshot), { code: "azure_failed" });
  assert.equal(await read(), "after");

  for (const fault of ["lost", refused, "reset"] as const) {
    await write("after");
    arm.failNext(isSwapMade, fault);
    await snapshots.restore(tenantId, snapshot);
    assert.equal(await read(), "before");
  }
  assert.deepEqual(await stepsOf("state.swap"), ["failed", "done", "failed", "done", "failed", "done"]);
  await write("after");
  let isSwapping = false;
  const isSwapStart = (call: Parameters<typeof isSwapMade>[0]) => {
    isSwapping ||= isSwapMade(call);
    return isSwapping && isJobStart(call);
  };
  arm.failNext(isSwapStart, "lost");
  await snapshots.restore(tenantId, snapshot);
  assert.equal(await read(), "before", "a run whose start was answered into the void takes place all the same");

  arm.failNext(isSwapMade, refused, 3);
  await write("after");
  await assert.rejects(snapshots.restore(tenantId, snapshot), { code: "azure_failed" });
  assert.equal(await read(), "after");
  await snapshots.restore(tenantId, snapshot);
  assert.equal(await read(), "before");
  assert.deepEqual(arm.violations, []);
  const leftovers = (await listTenants()).filter((name) => name !== tenantId);
  assert.ok(
    leftovers.every((name) => name.includes(".restored-")),
    leftovers.join(),
  );
});

test("a state that a crash left between two names is found again by the next restoration and the next start", async (t) => {
  const { snapshots, driver, tenantId, folder, write, read, spec, seedSecrets, listTenants } = await setUpSleeping(t);
  await write("before");
  const snapshot = await snapshots.take(tenantId);
  await write("after");
  await rename(folder, `${folder}.replaced-0123456789ab`);
  await mkdir(`${folder}.restored-0123456789ab`);
  await snapshots.restore(tenantId, snapshot);
  assert.equal(await read(), "before");

  await driver.remove(tenantId);
  await rename(folder, `${folder}.replaced-0123456789ab`);
  await seedSecrets(tenantId);
  await driver.ensure(spec(tenantId, 1));
  assert.equal(await read(), "before");
  await driver.erase(tenantId);
  assert.deepEqual(await listTenants(), []);
});

test("a restoration that is broken off while it copies leaves the old state", async (t) => {
  const { snapshots, tenantId, arm, write, read } = await setUpSleeping(t);
  await write("before");
  const snapshot = await snapshots.take(tenantId);
  await write("after");
  const stopping = new AbortController();
  arm.failNext((call) => {
    if (isJobStart(call)) stopping.abort();
    return false;
  }, "reset");
  await assert.rejects(snapshots.restore(tenantId, snapshot, { signal: stopping.signal }), { name: "AbortError" });
  assert.equal(await read(), "after");
});
