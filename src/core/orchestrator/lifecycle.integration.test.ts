import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ConflictError, NotFoundError } from "../platform/errors.ts";
import { parseTenantId } from "../platform/ids.ts";
import { getTenant, listTenantEvents, updateTenant } from "../tenants/tenants.ts";
import { createTestDatabase } from "../testing/database.ts";
import { deprovisionTenant, provisionTenant, resumeTenant, suspendTenant } from "./orchestrator.ts";
import { setUpOrchestrator } from "./test-setup.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());

function namesRemedy(slug: string) {
  return (error: unknown) => {
    assert.ok(error instanceof ConflictError);
    assert.equal(error.code, "not_entitled");
    assert.match(error.message, RegExp(`openclaw tenant update ${slug} --billing-exempt, or --trial-days`));
    return true;
  };
}

test("provisioning needs entitlement and names the remedy, which works (F55)", async (t) => {
  const { ctx, newTenant } = await setUpOrchestrator(t, database.db);
  const id = await newTenant({});
  const { slug } = await getTenant(ctx.db, id);
  await assert.rejects(provisionTenant(ctx, id, "asked"), namesRemedy(slug));
  assert.equal((await getTenant(ctx.db, id)).status, "pending");
  await updateTenant(ctx, id, { billingExempt: true });
  assert.equal((await provisionTenant(ctx, id, "asked")).status, "provisioning");
  await provisionTenant(ctx, id, "asked again");
  const changes = (await listTenantEvents(ctx.db, id, 50)).filter(({ action }) => action === "tenant.status");
  assert.deepEqual(
    changes.map(({ reason }) => reason),
    ["asked"],
  );
});

test("resuming needs entitlement, also when an operator suspended", async (t) => {
  const { ctx, newTenant, settle, clock } = await setUpOrchestrator(t, database.db);
  const id = await newTenant({ trialDays: 1 });
  await settle(id);
  const { slug } = await getTenant(ctx.db, id);
  assert.equal((await suspendTenant(ctx, id, "abuse")).suspendedBy, "operator");
  clock.advance(2 * 86_400_000);
  await assert.rejects(resumeTenant(ctx, id, "sorry"), namesRemedy(slug));
  assert.equal((await getTenant(ctx.db, id)).status, "suspended");
  await updateTenant(ctx, id, { trialDays: 7 });
  assert.equal((await resumeTenant(ctx, id, "sorry")).status, "active");
});

test("what the state forbids is refused by name, and asking twice for a removal is fine", async (t) => {
  const { ctx, newTenant, settle } = await setUpOrchestrator(t, database.db);
  const id = await newTenant();
  await assert.rejects(suspendTenant(ctx, id, "early"), { code: "transition_not_allowed" });
  await settle(id);
  await assert.rejects(resumeTenant(ctx, id, "?"), { code: "not_suspended" });
  await assert.rejects(provisionTenant(ctx, id, "?"), { code: "transition_not_allowed" });
  await deprovisionTenant(ctx, id, "ended");
  assert.equal((await deprovisionTenant(ctx, id, "ended")).status, "deprovisioning");
  await assert.rejects(provisionTenant(ctx, id, "?"), { code: "transition_not_allowed" });
  await settle(id);
  await assert.rejects(deprovisionTenant(ctx, id, "ended"), { code: "transition_not_allowed" });
  assert.equal((await provisionTenant(ctx, id, "returned")).status, "provisioning");
});

test("an id that no tenant has is not found", async (t) => {
  const { ctx } = await setUpOrchestrator(t, database.db);
  const nobody = parseTenantId("00000000-0000-4000-8000-000000000000");
  assert.ok(nobody);
  for (const act of [provisionTenant, suspendTenant, resumeTenant, deprovisionTenant])
    await assert.rejects(act(ctx, nobody, "?"), NotFoundError);
});
