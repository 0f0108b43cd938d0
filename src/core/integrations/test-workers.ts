import type { OAuthClient, Providers } from "../adapters/oauth/oauth-provider.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import type { Stage } from "./test-setup.ts";

export type Moment = "before" | "after";
/** What a refresher does outside of the database, in this order. */
export const CALLS = ["read", "spend", "write", "verify"] as const;
export type Call = (typeof CALLS)[number];
export const MOMENTS = CALLS.flatMap((call) => (["before", "after"] as const).map((moment) => ({ call, moment })));

/** A process in which `through` stands around each of the calls. */
export function workerThrough(
  stage: Stage,
  through: <Result>(call: Call, work: () => Promise<Result>) => Promise<Result>,
): IntegrationsContext {
  const ctx = stage.worker((vault) => ({
    ...vault,
    getNewest: (...args) => through("read", () => vault.getNewest(...args)),
    set: (...args) => through("write", () => vault.set(...args)),
    getVersion: (...args) => through("verify", () => vault.getVersion(...args)),
  }));
  const wrap = (client: OAuthClient): OAuthClient => ({
    ...client,
    refresh: (...args) => through("spend", () => client.refresh(...args)),
  });
  return { ...ctx, providers: withClients(ctx.providers, wrap) };
}

function withClients(providers: Providers, wrap: (client: OAuthClient) => OAuthClient): Providers {
  return {
    ...providers,
    find(id) {
      const found = providers.find(id);
      return found?.client && { ...found, client: wrap(found.client) };
    },
  };
}

/** A process that stops at a moment, until it is woken. */
export function stallingWorker(stage: Stage, at: { call: Call; moment: Moment }) {
  const reached = Promise.withResolvers<void>();
  const woken = Promise.withResolvers<void>();
  const stall = async (call: Call, moment: Moment) => {
    if (call !== at.call || moment !== at.moment) return;
    reached.resolve();
    await woken.promise;
  };
  const ctx = workerThrough(stage, async (call, work) => {
    await stall(call, "before");
    const result = await work();
    await stall(call, "after");
    return result;
  });
  return { ctx, reached: reached.promise, wake: woken.resolve };
}
