import assert from "node:assert/strict";
import test from "node:test";
import { Registry } from "prom-client";
import type { ProviderId, TenantId } from "../core/platform/ids.ts";
import { createIntegrationMetrics } from "./integration-metrics.ts";

const GMAIL = "gmail" as ProviderId;
const TENANT = "11111111-2222-4333-8444-555555555555" as TenantId;
const now = () => new Date("2026-11-20T10:00:00Z");

test("refreshes, tokens, states, refused clients and what is overdue are shown by provider, and no tenant is", async () => {
  const registry = new Registry();
  const metrics = createIntegrationMetrics(registry, {
    now,
    readConnections: async () => ({
      byState: [{ provider: GMAIL, state: "expiring", count: 3 }],
      oldestDueAt: new Date("2026-11-20T09:58:30Z"),
      refusedClients: [GMAIL],
    }),
  });
  const event = { tenantId: TENANT, provider: GMAIL, at: now(), askedBy: "sweep", durationMs: 5 } as const;
  metrics.noted({ ...event, kind: "refresh", outcome: "done" });
  metrics.noted({ ...event, kind: "revoke", outcome: "done" });
  metrics.asked(GMAIL, "handed-out");
  const lines = (await registry.metrics()).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  assert.deepEqual(lines, [
    'openclaw_connection_refreshes_total{provider="gmail",outcome="done"} 1',
    'openclaw_connection_tokens_total{provider="gmail",result="handed-out"} 1',
    'openclaw_connections{provider="gmail",state="expiring"} 3',
    'openclaw_oauth_client_refused{provider="gmail"} 1',
    "openclaw_connection_refresh_overdue_seconds 90",
  ]);
});

test("without a database what stands in it is not shown as nothing", async () => {
  const registry = new Registry();
  createIntegrationMetrics(registry, { now, readConnections: () => Promise.reject(new Error("away")) });
  assert.match(await registry.metrics(), /^openclaw_connection_refresh_overdue_seconds nan$/im);
});
