import { NotFoundError } from "../../platform/errors.ts";
import type { TenantId } from "../../platform/ids.ts";
import { absentRuntime, type ObservedRuntime, type RuntimeDriver, type RuntimeSpec } from "./runtime-driver.ts";

type Operation = "ensure" | "inspect" | "list" | "sleep" | "wake" | "remove" | "erase";
type Entry = { spec: RuntimeSpec; asleep: boolean };

export type MemoryDriver = RuntimeDriver & {
  /** Decides whether an awake runtime is `running` or still `starting`. */
  setHealthy(tenantId: TenantId, healthy: boolean): void;
  /** The next call of `operation` throws `error` and changes nothing. Several queue up. */
  failNext(operation: Operation, error: Error): void;
};

/** Runtimes that are only remembered, for tests of what uses a driver. They are healthy at once unless `healthy` is false. */
export function createMemoryDriver(
  options: { address?: (tenantId: TenantId) => string; healthy?: boolean } = {},
): MemoryDriver {
  const addressOf = options.address ?? ((tenantId) => `http://${tenantId}.invalid`);
  const entries = new Map<TenantId, Entry>();
  const health = new Map<TenantId, boolean>();
  const failures: { operation: Operation; error: Error }[] = [];

  function failIfTold(operation: Operation): void {
    const index = failures.findIndex((failure) => failure.operation === operation);
    for (const failure of index < 0 ? [] : failures.splice(index, 1)) throw failure.error;
  }

  function observe(tenantId: TenantId): ObservedRuntime {
    const entry = entries.get(tenantId);
    if (entry === undefined) return absentRuntime(tenantId);
    const healthy = health.get(tenantId) ?? options.healthy ?? true;
    return {
      tenantId,
      state: entry.asleep ? "asleep" : healthy ? "running" : "starting",
      address: entry.asleep ? undefined : addressOf(tenantId),
      image: entry.spec.image,
      specHash: entry.spec.hash,
      reason: undefined,
      drift: [],
    };
  }

  return {
    name: "memory",
    async ensure(spec, call) {
      call?.signal?.throwIfAborted();
      failIfTold("ensure");
      entries.set(spec.tenantId, { spec, asleep: entries.get(spec.tenantId)?.asleep ?? false });
      return observe(spec.tenantId);
    },
    async inspect(tenantId) {
      failIfTold("inspect");
      return observe(tenantId);
    },
    async list() {
      failIfTold("list");
      return [...entries.keys()].map(observe);
    },
    async sleep(tenantId) {
      failIfTold("sleep");
      const entry = entries.get(tenantId);
      if (entry !== undefined) entry.asleep = true;
      return observe(tenantId);
    },
    async wake(tenantId) {
      failIfTold("wake");
      const entry = entries.get(tenantId);
      if (entry === undefined)
        throw new NotFoundError("runtime_absent", `Tenant ${tenantId} has no runtime; provision it first.`);
      entry.asleep = false;
      return observe(tenantId);
    },
    async remove(tenantId) {
      failIfTold("remove");
      entries.delete(tenantId);
      health.delete(tenantId);
    },
    async erase(tenantId) {
      failIfTold("erase");
      entries.delete(tenantId);
      health.delete(tenantId);
    },
    async close() {},
    setHealthy(tenantId, healthy) {
      health.set(tenantId, healthy);
    },
    failNext(operation, error) {
      failures.push({ operation, error });
    },
  };
}
