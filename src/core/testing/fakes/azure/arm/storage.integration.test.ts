import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { until } from "../../../../adapters/runtime/contract.ts";
import { all, callArm, FAST, prepareApp, prepareState, setUpArm, withCode } from "./test-setup.ts";

async function setUp(t: TestContext) {
  const bench = await setUpArm(t);
  await prepareState(bench.clients, bench.stamp, "acme");
  const { containers, storage } = bench.clients;
  const { storageAccount } = bench.stamp;
  const [share] = bench.arm.state.shares();
  assert.ok(share);
  /** Runs the job with other words, and says how it ended. */
  const run = async (args: string[]) => {
    const template = {
      containers: [
        { name: "state", image: "any", args, command: ["/bin/sh", "-c"], env: [{ name: "SHARE", value: "/share" }] },
      ],
    };
    const { name = "" } = await containers.jobs.start(bench.group, "state", { ...FAST, template });
    return until(async () => {
      const { status } = await containers.jobExecution(bench.group, "state", name);
      return status === "Running" ? undefined : status;
    }, "the execution to end");
  };
  return { ...bench, account: storageAccount, shares: storage.fileShares, folder: share.folder, run };
}

test("a job's execution works on the share, and says how it ended", async (t) => {
  const { arm, clients, group, folder, run } = await setUp(t);
  assert.ok(existsSync(path.join(folder, "acme")));
  assert.equal(await run(['echo kept > "$SHARE/acme/file" && tar -C /share -czf /share/acme.tgz acme']), "Succeeded");
  assert.ok(existsSync(path.join(folder, "acme.tgz")));
  assert.equal(await run(['rm -rf "$SHARE/acme" && exit 3']), "Failed");
  assert.ok(!existsSync(path.join(folder, "acme")));
  assert.equal((await all(clients.containers.jobsExecutions.list(group, "state"))).length, 3);
  const job = await clients.containers.jobs.get(group, "state");
  assert.deepEqual([job.provisioningState, job.location], ["Succeeded", "West Europe"]);
  await clients.containers.jobs.delete(group, "state", FAST);
  await assert.rejects(clients.containers.jobs.get(group, "state"), withCode("ResourceNotFound", 404));
  assert.deepEqual(arm.violations, []);
});

test("a snapshot keeps what the share held, where its clients find it", async (t) => {
  const { group, account, shares, folder, run } = await setUp(t);
  writeFileSync(path.join(folder, "acme", "file"), "before");
  const { snapshotTime } = await shares.create(group, account, "openclaw-state", {}, { expand: "snapshots" });
  assert.ok(snapshotTime);
  writeFileSync(path.join(folder, "acme", "file"), "after");
  assert.equal(await run(["grep -rq before /share/.snapshots"]), "Succeeded");
  const listed = await all(shares.list(group, account, { expand: "snapshots" }));
  assert.deepEqual(
    listed.map((share) => share.snapshotTime !== undefined),
    [false, true],
  );
  await assert.rejects(shares.delete(group, account, "openclaw-state"), withCode("ShareHasSnapshots", 409));
  const xMsSnapshot = snapshotTime.toISOString();
  const { name } = await shares.get(group, account, "openclaw-state", { xMsSnapshot });
  assert.equal(name, "openclaw-state");
  await shares.delete(group, account, "openclaw-state", { xMsSnapshot });
  await assert.rejects(shares.get(group, account, "openclaw-state", { xMsSnapshot }), withCode("ShareNotFound", 404));
});

test("a deleted share is in the way for a while", async (t) => {
  const { arm, group, account, shares } = await setUp(t);
  arm.settle.deletePolls = 1;
  await shares.delete(group, account, "openclaw-state");
  await assert.rejects(shares.create(group, account, "openclaw-state", {}), withCode("ShareBeingDeleted", 409));
  await shares.create(group, account, "openclaw-state", { enabledProtocols: "NFS" });
  await assert.rejects(shares.create(group, account, "a--b", {}), withCode("InvalidResourceName", 400));
  await assert.rejects(shares.get(group, "elsewhere", "openclaw-state"), withCode("ResourceNotFound", 404));
});

test("an environment shows its storages and what of its cores is in use", async (t) => {
  const { azure, clients, group, stamp } = await setUpArm(t);
  const { app } = await prepareApp(azure, clients, "acme");
  await clients.containers.containerApps.createOrUpdate(group, "acme", app, FAST);
  const { managedEnvironments, managedEnvironmentsStorages: storages, managedEnvironmentUsages } = clients.containers;
  assert.equal((await managedEnvironments.get(group, "openclaw-env")).provisioningState, "Succeeded");
  const [cores] = await all(managedEnvironmentUsages.list(group, "openclaw-env"));
  assert.deepEqual([cores?.currentValue, cores?.limit], [1, 100]);
  const { value } = await storages.list(group, "openclaw-env");
  assert.deepEqual(
    value.map(({ name }) => name),
    ["openclaw-nfs"],
  );
  const nfsAzureFile = {
    server: `${stamp.storageAccount}.file.core.windows.net`,
    shareName: "openclaw-state",
    accessMode: "ReadWrite",
  };
  await assert.rejects(
    storages.createOrUpdate(group, "openclaw-env", "other", { properties: { nfsAzureFile } }),
    /must be \/account\/share/,
  );
  await storages.delete(group, "openclaw-env", "openclaw-nfs");
  await assert.rejects(
    storages.get(group, "openclaw-env", "openclaw-nfs"),
    withCode("ManagedEnvironmentStorageNotFound", 404),
  );
  const account = await callArm(
    azure,
    "GET",
    `/subscriptions/${stamp.subscriptionId}/resourceGroups/${group}/providers/Microsoft.Storage/storageAccounts/${stamp.storageAccount}?api-version=2025-08-01`,
  );
  assert.equal(account.status, 200);
});

test("a state folder that nobody made, and a share that isn't there, can't be mounted (F31)", async (t) => {
  const { azure, arm, clients, group, stamp } = await setUpArm(t);
  const { app } = await prepareApp(azure, clients, "acme");
  const [container] = app.template?.containers ?? [];
  const volumeMounts = [{ volumeName: "state", mountPath: "/home/node/.openclaw", subPath: "absent" }];
  const containers = [{ ...container, volumeMounts }];
  await clients.containers.containerApps.createOrUpdate(
    group,
    "acme",
    { ...app, template: { ...app.template, containers } },
    FAST,
  );
  const [snapshot] = arm.state.apps();
  assert.match(snapshot?.revisions[0]?.failure ?? "", /subPath absent doesn't exist/);
  await clients.storage.fileShares.delete(group, stamp.storageAccount, "openclaw-state");
  await clients.containers.containerApps.createOrUpdate(
    group,
    "other",
    { ...app, identity: app.identity ?? { type: "None" } },
    FAST,
  );
  assert.match(arm.state.apps()[1]?.revisions[0]?.failure ?? "", /can't be mounted/);
});
