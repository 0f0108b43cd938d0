import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import test from "node:test";
import type { Stamp } from "./config.ts";
import type { StampId } from "./ids.ts";
import { readStamps, roomOf } from "./stamps.ts";

const SUBSCRIPTION = "abcdefab-1234-4234-9234-123456789abc";

function stampOf(id: string, resourceGroup: string, subscriptionId = SUBSCRIPTION): Stamp {
  return {
    id: id as StampId,
    subscriptionId,
    resourceGroup,
    location: "westeurope",
    environmentId: `/subscriptions/${subscriptionId}/resourceGroups/${resourceGroup}/providers/Microsoft.App/managedEnvironments/env`,
    acrServer: undefined,
    vaultName: `vault-${id}`,
    vaultUrl: `https://vault-${id}.vault.azure.net`,
    storageAccount: "state",
    reachableFrom: "environment",
    coresQuota: undefined,
  };
}

test("two stamps in one resource group are refused, in whatever case it is written", async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), "openclaw-stamps-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const stampsFile = path.join(folder, "stamps.json");
  const read = async (resourceGroup: string) => {
    const { acrServer: _acrServer, coresQuota: _coresQuota, ...given } = stampOf("two", resourceGroup);
    await writeFile(stampsFile, JSON.stringify({ stamps: [given] }));
    return readStamps({ stamp: stampOf("default", "openclaw"), stampsFile });
  };
  assert.deepEqual(
    (await read("openclaw-2")).map(({ id }) => id),
    ["default", "two"],
  );
  await assert.rejects(read("OpenClaw"), /"default" and "two" have the same resource group/);
});

test("stamps share the room of their subscription, in whatever case it is written", () => {
  const [one, two] = [stampOf("one", "a"), stampOf("two", "b", SUBSCRIPTION.toUpperCase())];
  assert.equal(roomOf(one, [one, two]), 450);
  assert.equal(roomOf(one, [one]), 900);
});
