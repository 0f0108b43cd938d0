import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import type { ProviderId, TenantId } from "../../platform/ids.ts";
import { connectionSecretName, tenantOfSecret, tenantSecretName } from "./vault.ts";

const tenant = () => randomUUID() as TenantId;

test("every tenant, key and consent has a secret of its own, whose name tells whose it is (F72)", () => {
  const [alice, bob] = [tenant(), tenant()];
  const names = [alice, bob].flatMap((id) => [
    ...[1, 2].map((generation) => tenantSecretName(id, "model-key", generation)),
    ...[randomUUID(), randomUUID()].map((grantId) => connectionSecretName(id, "gmail" as ProviderId, grantId)),
  ]);
  assert.equal(new Set(names).size, names.length);
  assert.deepEqual(names.map(tenantOfSecret), [alice, alice, alice, alice, bob, bob, bob, bob]);
  assert.equal(tenantOfSecret("-gmail-token"), undefined);
});
