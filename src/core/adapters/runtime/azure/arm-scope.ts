import { AsyncLocalStorage } from "node:async_hooks";
import type { Urgency } from "../runtime-driver.ts";

/** On whose behalf Azure Resource Manager is called: what the SDKs' clients can't be told with each call. */
export type ArmScope = {
  urgency: Urgency;
  /** Ends waiting for the budget, and requests that are under way. */
  signal?: AbortSignal | undefined;
  /** Told of every answer, with the id under which Azure knows the call. */
  onCall?: ((correlationId: string) => void) | undefined;
};

const scopes = new AsyncLocalStorage<ArmScope>();

/** Every call inside `work` is made in `scope`; what it leaves open is as in the scope around it, whose `onCall` is told as well. */
export function withArmScope<Result>(scope: Partial<ArmScope>, work: () => Promise<Result>): Promise<Result> {
  const outer = armScope();
  return scopes.run(
    {
      urgency: scope.urgency ?? outer.urgency,
      signal: scope.signal ?? outer.signal,
      onCall(correlationId) {
        scope.onCall?.(correlationId);
        outer.onCall?.(correlationId);
      },
    },
    work,
  );
}

/** Outside of any, a call is a repair. */
export function armScope(): ArmScope {
  return scopes.getStore() ?? { urgency: "repair" };
}
