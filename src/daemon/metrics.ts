import type { FastifyInstance } from "fastify";
import { collectDefaultMetrics, Counter, Registry } from "prom-client";
import type { ArmBudgetState } from "../core/adapters/runtime/azure/arm-budget.ts";
import type { PacerState } from "../core/adapters/telegram/pacer.ts";
import type { SweepState } from "../core/orchestrator/orchestrator.ts";
import { showArmBudgets } from "./arm-metrics.ts";
import { createFleetMetrics } from "./fleet-metrics.ts";
import { errorBody, isSameSecret } from "./http.ts";
import { createIntegrationMetrics, type IntegrationSources } from "./integration-metrics.ts";
import { createModelMetrics } from "./model-metrics.ts";
import { showPacer } from "./pacer-metrics.ts";
import { createRouterMetrics, type RouterSources } from "./router-metrics.ts";

/** What this daemon counts. One registry a daemon, so that several can live in one process. */
export function createMetrics(
  sources: RouterSources &
    IntegrationSources & {
      readPacer(): PacerState;
      readSweeps(): Promise<SweepState>;
      /** Undefined: no runtimes on Azure. */
      readArmBudgets: (() => Promise<ArmBudgetState[]>) | undefined;
    },
) {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const webhooks = new Counter({
    name: "openclaw_webhook_events_total",
    help: "Webhook calls by source and result.",
    labelNames: ["source", "result"],
    registers: [registry],
  });
  const jobs = new Counter({
    name: "openclaw_jobs_total",
    help: "Jobs run by name and result.",
    labelNames: ["name", "result"],
    registers: [registry],
  });
  showPacer(registry, sources.readPacer);
  if (sources.readArmBudgets !== undefined) showArmBudgets(registry, sources.readArmBudgets);
  return {
    registry,
    webhooks,
    jobs,
    models: createModelMetrics(registry),
    fleet: createFleetMetrics(registry, () => sources.readSweeps()),
    integrations: createIntegrationMetrics(registry, sources),
    router: createRouterMetrics(registry, sources),
  };
}

export type Metrics = ReturnType<typeof createMetrics>;

/** `/metrics`, open on loopback and behind a bearer token elsewhere: closed when no token is set. */
export function registerMetrics(
  app: FastifyInstance,
  metrics: Metrics,
  access: { isLoopback: boolean; token: string | undefined },
): void {
  app.get("/metrics", async (request, reply) => {
    const given = request.headers.authorization ?? "";
    const isAllowed = access.token === undefined ? access.isLoopback : isSameSecret(given, `Bearer ${access.token}`);
    if (!isAllowed) {
      return reply
        .code(401)
        .send(errorBody("unauthorized", "Send the token of OPENCLAW_METRICS_TOKEN as a bearer token.", request.id));
    }
    return reply.type(metrics.registry.contentType).send(await metrics.registry.metrics());
  });
}
