import { z } from "zod";
import type { RuntimeSpec } from "../adapters/runtime/runtime-driver.ts";
import { ConfigError } from "../platform/errors.ts";

// What we emit and no more, also where the real runtime takes more: what it does not catch by itself (a webhook without a secret, an
// open bind without auth, an allow-list with nobody or with a name on it) is caught here.

const reference = z.string().regex(/^\$\{[A-Z][A-Z0-9_]*\}$/, "must be a reference such as ${NAME}");
const port = z.number().int().min(1).max(65_535);

const model = z.strictObject({
  id: z.string().min(1),
  name: z.string().min(1),
  reasoning: z.boolean(),
  input: z.array(z.enum(["text", "image"])).min(1),
  contextWindow: z.number().int().positive(),
  maxTokens: z.number().int().positive(),
  cost: z.strictObject({ input: z.number(), output: z.number(), cacheRead: z.number(), cacheWrite: z.number() }),
});

const provider = z.strictObject({
  baseUrl: z.url({ protocol: /^https?$/ }),
  apiKey: reference,
  api: z.enum(["anthropic-messages", "openai-completions"]),
  models: z.array(model).min(1),
});

const telegram = z.strictObject({
  enabled: z.literal(true),
  name: z.string().min(1),
  botToken: reference,
  apiRoot: z.url({ protocol: /^https?$/ }),
  dmPolicy: z.enum(["allowlist", "disabled"]),
  allowFrom: z
    .array(z.string().regex(/^[0-9]+$/, "must be a Telegram user id"))
    .min(1)
    .optional(),
  direct: z
    .record(
      z.string(),
      z.strictObject({
        systemPrompt: z
          .string()
          .min(1)
          .regex(/^(?!.*\$\{)/s, "must not contain ${, which the model would get filled in"),
      }),
    )
    .optional(),
  groupPolicy: z.literal("disabled"),
  configWrites: z.literal(false),
  streaming: z.strictObject({ mode: z.enum(["off", "partial"]) }),
  webhookUrl: z.url({ protocol: /^https$/ }),
  webhookSecret: reference,
  webhookHost: z.string().min(1),
  webhookPort: port,
  webhookPath: z.string().regex(/^\/(?!healthz$)[a-z-]+$/),
});

const configSchema = z.strictObject({
  gateway: z.strictObject({
    mode: z.literal("local"),
    port,
    bind: z.enum(["lan", "loopback"]),
    auth: z.strictObject({ mode: z.literal("token"), token: reference }),
    controlUi: z.strictObject({ enabled: z.literal(false) }),
    terminal: z.strictObject({ enabled: z.literal(false) }),
  }),
  models: z.strictObject({
    catalogRefresh: z.strictObject({ enabled: z.literal(false) }),
    providers: z.partialRecord(z.enum(["cp-anthropic", "cp-openai"]), provider),
  }),
  agents: z.strictObject({
    defaults: z.strictObject({
      model: z.strictObject({ primary: z.string().regex(/^cp-(anthropic|openai)\/./), fallbacks: z.array(z.string()) }),
      models: z.record(z.string(), z.strictObject({})),
      workspace: z.string().startsWith("/"),
      compaction: z.strictObject({ mode: z.literal("safeguard") }),
      heartbeat: z.strictObject({ every: z.literal("0m") }),
      maxConcurrent: z.number().int().positive(),
      subagents: z.strictObject({ maxConcurrent: z.number().int().positive() }),
    }),
  }),
  channels: z.strictObject({
    telegram: telegram
      .refine(({ dmPolicy, allowFrom }) => (dmPolicy === "allowlist") === (allowFrom !== undefined), {
        message: "an allow-list needs somebody on it, and nobody else has one",
        path: ["allowFrom"],
      })
      .refine(({ allowFrom = [], direct = {} }) => Object.keys(direct).join() === allowFrom.join(), {
        message: "must be said to those on the allow-list, and to nobody else",
        path: ["direct"],
      }),
  }),
  plugins: z.strictObject({ allow: z.array(z.string().min(1)).min(1) }),
  discovery: z.strictObject({ mdns: z.strictObject({ mode: z.literal("off") }) }),
  update: z.strictObject({ checkOnStart: z.literal(false) }),
});

/**
 * Whether a spec may be applied: its configuration is what we mean to emit, and everything that it refers to is given (F95).
 * @throws ConfigError with every problem; the configuration in force stays.
 */
export function checkSpec(spec: Pick<RuntimeSpec, "slug" | "config" | "env" | "secrets">): void {
  const parsed = configSchema.safeParse(spec.config);
  const problems = parsed.success
    ? []
    : parsed.error.issues.map(({ path, message }) => `${path.join(".") || "configuration"}: ${message}`);
  const text = JSON.stringify(spec.config);
  for (const [, name = ""] of text.matchAll(/\$\{([A-Za-z0-9_]+)\}/g))
    if (!(name in spec.env) && !(name in spec.secrets)) problems.push(`\${${name}} is not given to the runtime`);
  if (problems.length === 0) return;
  throw new ConfigError(
    "runtime_config_invalid",
    problems.map((problem) => `the configuration of ${spec.slug} is not applied: ${problem}`),
  );
}
