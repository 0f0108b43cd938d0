import assert from "node:assert/strict";
import { test } from "node:test";
import { request } from "undici";
import { all, FAST, prepareApp, setUpArm, withCode } from "./test-setup.ts";

test("a tenant's resources are made, run, sleep, wake and go", async (t) => {
  const { azure, arm, clients, group } = await setUpArm(t);
  const { app } = await prepareApp(azure, clients, "acme");
  const made = await clients.containers.containerApps.createOrUpdate(group, "acme", app, FAST);
  assert.equal(made.provisioningState, "Succeeded");
  assert.equal(made.location, "West Europe");
  assert.match(made.id ?? "", /\/resourcegroups\/openclaw-1\/providers\/Microsoft.App\/containerapps\/acme$/);
  assert.equal(made.latestRevisionName, "acme--one");
  assert.equal(made.configuration?.ingress?.transport, "Http");

  const address = `https://${made.configuration?.ingress?.fqdn}`;
  const health = await request(`${address}/healthz`);
  assert.deepEqual([health.statusCode, await health.body.text()], [200, "ok"]);
  const delivery = await request(`${address}/telegram-webhook`, {
    method: "POST",
    headers: { "x-telegram-bot-api-secret-token": "s3cret" },
    body: JSON.stringify({ update_id: 1 }),
  });
  assert.equal(delivery.headers["x-openclaw-delivery-accepted"], "durable");
  assert.deepEqual(
    arm.deliveries.map(({ app: name, body }) => [name, body]),
    [["acme", { update_id: 1 }]],
  );

  const { containerAppsRevisions: revisions } = clients.containers;
  const [revision] = await all(revisions.listRevisions(group, "acme"));
  assert.equal(revision?.runningState, "RunningAtMaxScale");
  await revisions.deactivateRevision(group, "acme", "acme--one");
  assert.equal((await revisions.getRevision(group, "acme", "acme--one")).replicas, 0);
  assert.equal((await request(`${address}/healthz`)).statusCode, 404);
  assert.equal((await clients.containers.containerApps.get(group, "acme")).runningStatus, "Stopped");
  await assert.rejects(
    revisions.deactivateRevision(group, "acme", "acme--one"),
    withCode("RevisionAlreadyInRequestedState"),
  );
  await revisions.activateRevision(group, "acme", "acme--one");
  assert.equal((await request(`${address}/healthz`)).statusCode, 200);

  await clients.containers.containerApps.delete(group, "acme", FAST);
  await assert.rejects(clients.containers.containerApps.get(group, "acme"), withCode("ResourceNotFound", 404));
  await assert.rejects(request(`${address}/healthz`));
  assert.deepEqual(arm.violations, []);
});
