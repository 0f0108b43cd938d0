import assert from "node:assert/strict";
import test from "node:test";
import { ConfigError } from "../platform/errors.ts";
import type { StampId, TenantId } from "../platform/ids.ts";
import { checkSpec } from "./runtime-config.ts";
import { computeSpec } from "./spec.ts";

const fleet = {
  image: "openclaw:1",
  modelsByTier: { basic: ["claude-haiku-4-5"], plus: ["claude-sonnet-4-5", "gpt-5"] },
  internalUrl: "http://127.0.0.1:9090",
};
const tenant = {
  id: "11111111-2222-4333-8444-555555555555" as TenantId,
  stampId: "default" as StampId,
  slug: "alice",
  timeZone: "UTC",
  keyGeneration: 1,
};

function specOf(changes: { tier?: "basic" | "plus"; telegramUserId?: number | null } = {}) {
  return computeSpec({ ...tenant, tier: "basic", telegramUserId: 4_001, ...changes }, fleet);
}

test("what is computed for each tier, linked or not, may be applied", () => {
  for (const tier of ["basic", "plus"] as const)
    for (const telegramUserId of [4_001, null]) checkSpec(specOf({ tier, telegramUserId }));
});

const TELEGRAM = ["channels", "telegram"];
const spoilt: Record<string, [path: string[], value: unknown, complaint: RegExp]> = {
  "a key that nobody knows": [["streamMode"], "partial", /streamMode/],
  "a webhook without a secret": [[...TELEGRAM, "webhookSecret"], undefined, /webhookSecret/],
  "a secret in clear": [[...TELEGRAM, "botToken"], "4242:secret", /botToken: must be a reference/],
  "an allow-list with nobody": [[...TELEGRAM, "allowFrom"], [], /allowFrom/],
  "an allow-list with a name": [[...TELEGRAM, "allowFrom"], ["@alice"], /must be a Telegram user id/],
  "a list of people beside a closed door": [[...TELEGRAM, "dmPolicy"], "disabled", /allowFrom/],
  "a secret told to the model": [
    [...TELEGRAM, "direct", "4001", "systemPrompt"],
    "The key:\n${CP_MODEL_KEY}",
    /systemPrompt: must not contain/,
  ],
  "instructions for somebody else": [
    [...TELEGRAM, "direct"],
    { "*": { systemPrompt: "Hello" } },
    /direct: must be said/,
  ],
  "nobody told of connections": [[...TELEGRAM, "direct"], undefined, /direct: must be said/],
  "the reserved path": [[...TELEGRAM, "webhookPath"], "/healthz", /webhookPath/],
  "no auth behind an open bind": [["gateway", "auth", "mode"], "none", /auth.mode/],
  "a secret that is not given": [[...TELEGRAM, "botToken"], "${ELSEWHERE}", /\$\{ELSEWHERE\} is not given/],
};
for (const [what, [path, value, complaint]] of Object.entries(spoilt)) {
  test(`${what} is never applied (F41, F95)`, () => {
    const spec = specOf();
    assert.throws(
      () => checkSpec({ ...spec, config: withValue(spec.config, path, value) }),
      (error) => error instanceof ConfigError && error.problems.some((problem) => complaint.test(problem)),
    );
  });
}

function withValue(object: object, [key = "", ...rest]: string[], value: unknown): Record<string, unknown> {
  const inner: unknown = Reflect.get(object, key);
  const isLast = rest.length === 0 || typeof inner !== "object" || inner === null;
  return { ...object, [key]: isLast ? value : withValue(inner, rest, value) };
}
