import { Counter, type Registry } from "prom-client";
import type { ModelCallResult } from "../core/router/router.ts";

/** Counts model calls and budget warnings; what they cost is in the database, where it adds up over all daemons. */
export function createModelMetrics(registry: Registry) {
  const calls = new Counter({
    name: "openclaw_model_calls_total",
    help: "Model calls by how they ended, or why they were refused.",
    labelNames: ["result"],
    registers: [registry],
  });
  const warnings = new Counter({
    name: "openclaw_budget_warnings_total",
    help: "Budgets found used by so many percent, of tenants and of the fleet.",
    labelNames: ["scope", "percent"],
    registers: [registry],
  });
  for (const result of ["measured", "unknown"]) calls.inc({ result }, 0);
  return {
    called: (result: ModelCallResult) => calls.inc({ result }),
    warned: ({ isFleet, percent }: { isFleet: boolean; percent: number }) =>
      warnings.inc({ scope: isFleet ? "fleet" : "tenant", percent: String(percent) }),
  };
}
