import { createHash } from "node:crypto";
import type { RuntimeSpec } from "../adapters/runtime/runtime-driver.ts";
import { tenantSecretName } from "../adapters/vault/vault.ts";
import type { Config } from "../platform/config.ts";
import type { Tenant } from "../tenants/tenants.ts";
import { connectionsPrompt } from "./connections-prompt.ts";

export type FleetSettings = {
  image: string;
  modelsByTier: Config["runtime"]["modelsByTier"];
  /** Where runtimes reach the internal listener, without a trailing slash. */
  internalUrl: string;
};

/** All of a tenant that its runtime depends on. */
export type SpecTenant = Pick<
  Tenant,
  "id" | "stampId" | "slug" | "timeZone" | "tier" | "telegramUserId" | "keyGeneration"
>;

const CPU = 1;
const MEMORY_MIB = 2_048;

/**
 * What one tenant's runtime should be: a pure function of the tenant and the fleet's settings, with a hash over all of
 * it. The configuration holds `${ENV}` references instead of secrets; its keys are those that OpenClaw 2026.9 accepts.
 */
export function computeSpec(tenant: SpecTenant, fleet: FleetSettings): RuntimeSpec {
  const unhashed = {
    tenantId: tenant.id,
    stampId: tenant.stampId,
    slug: tenant.slug,
    image: fleet.image,
    config: runtimeConfig(tenant, fleet),
    env: { TZ: tenant.timeZone },
    secrets: {
      OPENCLAW_GATEWAY_TOKEN: tenantSecretName(tenant.id, "gateway-token", tenant.keyGeneration),
      CP_MODEL_KEY: tenantSecretName(tenant.id, "model-key", tenant.keyGeneration),
      TELEGRAM_BOT_TOKEN: tenantSecretName(tenant.id, "telegram-token", tenant.keyGeneration),
      TELEGRAM_WEBHOOK_SECRET: tenantSecretName(tenant.id, "webhook-secret", tenant.keyGeneration),
    },
    cpu: CPU,
    memoryMiB: MEMORY_MIB,
  };
  return { ...unhashed, hash: createHash("sha256").update(JSON.stringify(unhashed)).digest("hex") };
}

function runtimeConfig(tenant: SpecTenant, fleet: FleetSettings): RuntimeSpec["config"] {
  const gateway = `${fleet.internalUrl}/runtime/${tenant.id}`;
  const models = fleet.modelsByTier[tenant.tier];
  const references = models.map((model) => `${providerOf(model)}/${model}`);
  return {
    gateway: {
      mode: "local",
      port: 18_789,
      bind: "lan",
      auth: { mode: "token", token: "${OPENCLAW_GATEWAY_TOKEN}" },
      controlUi: { enabled: false },
      terminal: { enabled: false },
    },
    models: { catalogRefresh: { enabled: false }, providers: modelProviders(models, `${gateway}/model`) },
    agents: {
      defaults: {
        model: { primary: references[0], fallbacks: references.slice(1) },
        models: Object.fromEntries(references.map((reference) => [reference, {}])),
        workspace: "/home/node/.openclaw/workspace",
        compaction: { mode: "safeguard" },
        // A heartbeat would spend tokens for somebody who isn't there.
        heartbeat: { every: "0m" },
        maxConcurrent: 2,
        subagents: { maxConcurrent: 2 },
      },
    },
    channels: {
      telegram: {
        enabled: true,
        name: tenant.slug,
        botToken: "${TELEGRAM_BOT_TOKEN}",
        apiRoot: `${gateway}/telegram`,
        // The second wall behind the router: only the linked person is heard.
        ...directMessages(tenant, `${gateway}/integrations`),
        groupPolicy: "disabled",
        configWrites: false,
        // Partial replies multiply Bot API calls.
        streaming: { mode: "off" },
        // Required beside the secret; the Bot API gateway absorbs the setWebhook call that carries it.
        webhookUrl: "https://control-plane.invalid/telegram-webhook",
        webhookSecret: "${TELEGRAM_WEBHOOK_SECRET}",
        webhookHost: "0.0.0.0",
        webhookPort: 8_787,
        webhookPath: "/telegram-webhook",
      },
    },
    plugins: { allow: ["telegram"] },
    discovery: { mdns: { mode: "off" } },
    update: { checkOnStart: false },
  };
}

/** A private chat has the id of its person. */
function directMessages({ telegramUserId }: SpecTenant, integrationsUrl: string) {
  if (telegramUserId === null) return { dmPolicy: "disabled" };
  const person = String(telegramUserId);
  const systemPrompt = connectionsPrompt(integrationsUrl);
  return { dmPolicy: "allowlist", allowFrom: [person], direct: { [person]: { systemPrompt } } };
}

type Provider = "cp-anthropic" | "cp-openai";

function providerOf(model: string): Provider {
  return model.startsWith("claude") ? "cp-anthropic" : "cp-openai";
}

function modelProviders(models: readonly string[], baseUrl: string): Partial<Record<Provider, unknown>> {
  const entries = (provider: Provider) =>
    models
      .filter((model) => providerOf(model) === provider)
      .map((model) => ({
        id: model,
        name: model,
        reasoning: false,
        input: ["text", "image"],
        contextWindow: 200_000,
        maxTokens: 8_192,
        // The model gateway is the only meter.
        cost: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 },
      }));
  const anthropic = entries("cp-anthropic");
  const openai = entries("cp-openai");
  return {
    // The anthropic client appends /v1/messages itself, the OpenAI one expects /v1 in its base.
    ...(anthropic.length === 0
      ? {}
      : { "cp-anthropic": { baseUrl, apiKey: "${CP_MODEL_KEY}", api: "anthropic-messages", models: anthropic } }),
    ...(openai.length === 0
      ? {}
      : {
          "cp-openai": {
            baseUrl: `${baseUrl}/v1`,
            apiKey: "${CP_MODEL_KEY}",
            api: "openai-completions",
            models: openai,
          },
        }),
  };
}
