import { createHash, randomUUID } from "node:crypto";
import type { TestContext } from "node:test";
import Fastify from "fastify";
import { sql } from "kysely";
import { request } from "undici";
import { createMeter, createPriceTable } from "../billing/billing.ts";
import { fixedClock, systemClock } from "../platform/clock.ts";
import type { DaemonId, TenantId } from "../platform/ids.ts";
import { createLog } from "../platform/log.ts";
import { createTenant } from "../tenants/tenants.ts";
import { createTestDatabase } from "../testing/database.ts";
import { startModelServer } from "../testing/fakes/model-server.ts";
import { type ModelCallResult, type ModelUpstream, registerModelGateway } from "./model-gateway.ts";
import { createRuntimeAuth } from "./runtime-auth.ts";

export const OPERATOR_KEY = "sk-operator-key";
export const ALICE_KEY = "alice-key";
export const BOB_KEY = "bob-key";
export const MODEL = "claude-haiku-4-5";

/** A database with two tenants that run, Alice and Bob. */
export async function openModelStage() {
  const database = await createTestDatabase();
  const clock = fixedClock(new Date("2026-11-20T10:00:00Z"));
  const add = async (slug: string): Promise<TenantId> => {
    const ctx = { db: database.db, clock, actor: { name: "test" } };
    const { tenant } = await createTenant(ctx, { slug, email: `${slug}@example.com`, billingExempt: true });
    await database.pool.query("UPDATE tenants SET status = 'active' WHERE id = $1", [tenant.id]);
    return tenant.id;
  };
  const [alice, bob] = [await add("alice"), await add("bob")];
  return {
    ...database,
    clock,
    alice,
    bob,
    async reset() {
      await sql`TRUNCATE usage_records, usage_reservations, usage_months, fleet_usage_months, tenant_budgets, budget_stops,
        budget_warnings`.execute(database.db);
    },
    /** Alice's budget of the month. */
    async allow(tokens: number) {
      const row = { tenantId: alice, tokensPerMonth: tokens, microUsdPerMonth: null, updatedAt: clock.now() };
      await database.db.insertInto("tenantBudgets").values(row).execute();
    },
    /** What was recorded, in the order of the calls. */
    async records() {
      const { rows } = await sql<
        Record<"input" | "output" | "read" | "write" | "hour" | "cost", number> & { assumed: boolean }
      >`
        SELECT input_tokens AS input, output_tokens AS output, cache_read_tokens AS read, cache_write_tokens AS write,
          cache_write_hour_tokens AS hour, cost_micro_usd AS cost, is_assumed AS assumed
        FROM usage_records ORDER BY at, id`.execute(database.db);
      return rows;
    },
    close: () => database[Symbol.asyncDispose](),
  };
}

type Options = {
  upstreams?: { anthropic?: ModelUpstream; openai?: ModelUpstream };
  model?: Omit<NonNullable<Parameters<typeof startModelServer>[0]>, "apiKey">;
};

/** A gateway with its meter before a loopback model. */
export async function startModelGateway(
  t: TestContext,
  stage: Awaited<ReturnType<typeof openModelStage>>,
  options: Options = {},
) {
  const model = await startModelServer({ apiKey: OPERATOR_KEY, ...options.model });
  const lines: string[] = [];
  const results: ModelCallResult[] = [];
  const app = Fastify({ logger: { level: "trace", stream: { write: (line: string) => void lines.push(line) } } });
  const meter = createMeter({
    ...stage,
    log: createLog("error", { write: (line) => void lines.push(line) }),
    daemonId: randomUUID() as DaemonId,
    prices: createPriceTable(),
    readModels: async () => ({ basic: [MODEL], plus: [MODEL] }),
  });
  const keys = new Map([
    [stage.alice, ALICE_KEY],
    [stage.bob, BOB_KEY],
  ]);
  await registerModelGateway(app, {
    auth: createRuntimeAuth({
      clock: systemClock,
      credentials: {
        find: async (id) => {
          const key = keys.get(id);
          return key === undefined ? [] : [{ sha256: createHash("sha256").update(key).digest(), expiresAt: null }];
        },
      },
    }),
    upstreams: options.upstreams ?? {
      anthropic: { baseUrl: model.url, apiKey: OPERATOR_KEY },
      openai: { baseUrl: `${model.url}/v1`, apiKey: OPERATOR_KEY },
    },
    meter,
    observe: (result) => void results.push(result),
  });
  const url = await app.listen({ port: 0, host: "127.0.0.1" });
  t.after(async () => {
    await model.close();
    await app.close();
    await meter.close();
  });

  const post = (id: string, route: string, body: unknown, headers: Record<string, string>, signal?: AbortSignal) =>
    request(`${url}/runtime/${id}/model${route}`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify(body),
      ...(signal === undefined ? {} : { signal }),
    });
  /** As Alice, whose answer is read to its end. */
  const ask = async (route: string, body: unknown) => {
    const reply = await post(stage.alice, route, body, { "x-api-key": ALICE_KEY });
    return { statusCode: reply.statusCode, headers: reply.headers, text: await reply.body.text() };
  };
  return { model, url, post, ask, lines, results };
}

export function prompt(text: string, more: Record<string, unknown> = {}): Record<string, unknown> {
  const messages = [{ role: "user", content: text }];
  return { model: MODEL, messages, input: messages, ...more };
}
