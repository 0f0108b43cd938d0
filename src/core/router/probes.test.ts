import assert from "node:assert/strict";
import test from "node:test";
import type { TenantId } from "../platform/ids.ts";
import type { DeliveryResult } from "./delivery.ts";
import { createProbes } from "./probes.ts";

const tenant = (number: number) => String(number) as TenantId;
const gone: DeliveryResult = { kind: "unavailable", reason: "no answer" };

test("runtimes whose last try failed are tried a few at a time, and hold up no healthy one (F15)", async () => {
  const probes = createProbes(2);
  for (const number of [1, 2, 3]) await probes.post(tenant(number), async () => gone);
  const answer = Promise.withResolvers<DeliveryResult>();
  const first = [1, 2].map((number) => probes.post(tenant(number), () => answer.promise));
  let tried = 0;
  const count = async (): Promise<DeliveryResult> => {
    tried += 1;
    return { kind: "delivered" };
  };
  assert.equal(await probes.post(tenant(3), count), undefined);
  assert.equal(tried, 0);
  assert.deepEqual(await probes.post(tenant(4), count), { kind: "delivered" });
  answer.resolve({ kind: "delivered" });
  await Promise.all(first);
  // Well again, it is no longer among those.
  const again = [1, 2, 3].map((number) => probes.post(tenant(number), count));
  assert.deepEqual(
    await Promise.all(again),
    Array.from({ length: 3 }, () => ({ kind: "delivered" })),
  );
});
