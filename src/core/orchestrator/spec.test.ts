import assert from "node:assert/strict";
import test from "node:test";
import type { TenantId } from "../platform/ids.ts";
import type { Tenant } from "../tenants/tenants.ts";
import { computeSpec, type FleetSettings } from "./spec.ts";
import { EXAMPLE_TENANT as tenant } from "./test-tenant.ts";

const fleet: FleetSettings = {
  image: "openclaw:1",
  modelsByTier: { basic: ["claude-haiku-4-5"], plus: ["claude-sonnet-4-5", "gpt-5"] },
  internalUrl: "http://127.0.0.1:9090",
};

test("the same tenant and fleet give the same spec, and neither is changed", () => {
  const frozen = Object.freeze({ ...tenant });
  assert.deepEqual(computeSpec(frozen, Object.freeze({ ...fleet })), computeSpec(frozen, fleet));
});

const changes: Record<string, [Partial<Tenant>, Partial<FleetSettings>]> = {
  "the tenant": [{ id: "99999999-2222-4333-8444-555555555555" as TenantId }, {}],
  "the slug": [{ slug: "alicia" }, {}],
  "the time zone": [{ timeZone: "Europe/Berlin" }, {}],
  "the tier": [{ tier: "plus" }, {}],
  "the linked person": [{ telegramUserId: 4002 }, {}],
  "its keys": [{ keyGeneration: 2 }, {}],
  unlinking: [{ telegramUserId: null }, {}],
  "the image": [{}, { image: "openclaw:2" }],
  "the tier's models": [{}, { modelsByTier: { ...fleet.modelsByTier, basic: ["claude-haiku-5"] } }],
  "the internal address": [{}, { internalUrl: "http://10.0.0.1:9090" }],
};
for (const [what, [tenantChange, fleetChange]] of Object.entries(changes)) {
  test(`the hash changes with ${what}`, () => {
    const changed = computeSpec({ ...tenant, ...tenantChange }, { ...fleet, ...fleetChange });
    assert.notEqual(changed.hash, computeSpec(tenant, fleet).hash);
  });
}

test("what a runtime does not depend on leaves the hash alone", () => {
  const later = new Date("2027-01-01T00:00:00Z");
  const same = {
    ...tenant,
    status: "suspended",
    email: "a@example.com",
    updatedAt: later,
    hibernatedAt: later,
  } as const;
  assert.equal(computeSpec(same, fleet).hash, computeSpec(tenant, fleet).hash);
});

test("the configuration names secrets by reference only, each given under that name (F5, F95)", () => {
  const spec = computeSpec({ ...tenant, tier: "plus" }, fleet);
  const text = JSON.stringify(spec.config);
  const references = [...text.matchAll(/\$\{([A-Z_]+)\}/g)].map((match) => match[1]);
  assert.deepEqual(new Set(references), new Set(Object.keys(spec.secrets)));
  for (const [key, value] of entriesOf(spec.config)) {
    if (/token$|secret$|key$/i.test(key) && typeof value === "string")
      assert.match(value, /^\$\{[A-Z_]+\}$|^token$/, key);
  }
  for (const name of Object.values(spec.secrets)) assert.ok(name.startsWith(`tenant-${tenant.id}-`));
  const later = computeSpec({ ...tenant, keyGeneration: 12 }, fleet);
  assert.equal(later.secrets["CP_MODEL_KEY"], `tenant-${tenant.id}-model-key-g12`);
  for (const name of Object.values(later.secrets)) assert.ok(!Object.values(spec.secrets).includes(name));
  assert.deepEqual(Object.keys(spec.env), ["TZ"]);
});

test("only the linked person is heard, nobody when there is none, and never a group (F25)", () => {
  const telegram = (changed: Partial<Tenant>) =>
    JSON.stringify(computeSpec({ ...tenant, ...changed }, fleet).config["channels"]);
  assert.match(
    telegram({}),
    /"dmPolicy":"allowlist","allowFrom":\["4001"\],"direct":\{"4001":.*"groupPolicy":"disabled"/,
  );
  assert.match(telegram({ telegramUserId: null }), /"dmPolicy":"disabled","groupPolicy":"disabled"/);
});

test("the assistant is told where its person's connections are, and not which; never a secret (F78)", () => {
  const text = JSON.stringify(computeSpec(tenant, fleet).config["channels"]);
  const url = `http://127.0.0.1:9090/runtime/${tenant.id}/integrations`;
  for (const part of [`GET ${url} `, `GET ${url}/<provider>/token`, "CP_MODEL_KEY"])
    assert.ok(text.includes(part), part);
  // It would be filled in, for the model to read.
  assert.ok(!text.includes("${CP_MODEL_KEY}"));
  assert.ok(!JSON.stringify(computeSpec({ ...tenant, telegramUserId: null }, fleet).config).includes("integrations"));
});

test("the first model of the tier is primary, the others stand by, each with the provider that speaks its API", () => {
  const { config } = computeSpec({ ...tenant, tier: "plus" }, fleet);
  const text = JSON.stringify(config);
  assert.match(text, /"primary":"cp-anthropic\/claude-sonnet-4-5","fallbacks":\["cp-openai\/gpt-5"\]/);
  assert.match(text, /"cp-anthropic":\{"baseUrl":"http:\/\/127\.0\.0\.1:9090\/runtime\/[0-9a-f-]+\/model"/);
  assert.match(text, /"cp-openai":\{"baseUrl":"http:\/\/127\.0\.0\.1:9090\/runtime\/[0-9a-f-]+\/model\/v1"/);
});

function entriesOf(value: unknown): [string, unknown][] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]): [string, unknown][] => [[key, inner], ...entriesOf(inner)]);
}
