import type { StampId, TenantId } from "../../platform/ids.ts";

/**
 * `starting`: meant to run, and its webhook listener has not answered yet (or no longer does). `failed`: it will not come up without
 * another spec. `asleep`: stopped on purpose, everything kept. `absent`: there is nothing.
 */
export type RuntimeState = "starting" | "running" | "asleep" | "failed" | "absent";

/** The OpenClaw configuration as a JSON object; secrets are `${ENV}` references in its strings. */
export type RuntimeConfigFile = Readonly<Record<string, unknown>>;

export type RuntimeSpec = {
  tenantId: TenantId;
  /** Where on Azure it belongs; one machine has but one. */
  stampId: StampId;
  slug: string;
  image: string;
  config: RuntimeConfigFile;
  /** Plain values only: drivers may show and store them. */
  env: Readonly<Record<string, string>>;
  /** Name of an environment variable → name of the secret in the vault. */
  secrets: Readonly<Record<string, string>>;
  cpu: number;
  memoryMiB: number;
  /** Over all of the above. */
  hash: string;
};

export type ObservedRuntime = {
  tenantId: TenantId;
  state: RuntimeState;
  /** Base URL of the webhook port, without a trailing slash; undefined unless the runtime is meant to run. */
  address: string | undefined;
  /** What really runs, never what was asked for (F48): an image, or the program that stands in for one; empty when nothing does. */
  image: string;
  /** Hash of the spec that is in force, which is not the one asked for while a replacement is under way. */
  specHash: string;
  reason: string | undefined;
  /** What somebody else changed in it, in words such as `image` or `scale`; empty when it is as we made it. `ensure` mends it. */
  drift: readonly string[];
};

/** What an outside service with a budget serves first; the most urgent first. */
export const URGENCIES = ["wake", "provision", "repair", "sweep", "rollout"] as const;
export type Urgency = (typeof URGENCIES)[number];

export type DriverCall = {
  signal?: AbortSignal;
  /** `repair` unless told. */
  urgency?: Urgency;
};

/**
 * Runs tenants' runtimes somewhere. Every operation is idempotent, resumable after a crash at any point, and safe to run twice at once.
 * Any of them may throw a DeferredError: what was asked is under way, or has to wait; ask again later.
 */
export type RuntimeDriver = {
  readonly name: "local" | "memory" | "azure";
  /**
   * Makes the runtime what `spec` says: creates it, or replaces it when the hash differs, the old one gone before the new one starts.
   * Doesn't wait until it is healthy. An asleep runtime takes the spec over and stays asleep.
   * @throws ConfigError for a configuration or secret that can't be applied; the one in force goes on.
   */
  ensure(spec: RuntimeSpec, call?: DriverCall): Promise<ObservedRuntime>;
  /** `running` only when the webhook listener answers its health check (F47). */
  inspect(tenantId: TenantId, call?: DriverCall): Promise<ObservedRuntime>;
  /**
   * Everything that is there and ours, also what belongs to no tenant any more. Cheap enough for a sweep: it asks for lists, never for
   * one runtime at a time.
   */
  list(call?: DriverCall): Promise<ObservedRuntime[]>;
  /** Stops it and keeps everything. An asleep or absent one is left as it is. */
  sleep(tenantId: TenantId, call?: DriverCall): Promise<ObservedRuntime>;
  /** Starts it from what was kept; a running one is left as it is. @throws NotFoundError when absent. */
  wake(tenantId: TenantId, call?: DriverCall): Promise<ObservedRuntime>;
  /**
   * Removes the runtime with its configuration and whatever it was given, and returns only once that was read back. Its state is kept:
   * the next `ensure` of the tenant finds it (F68). An absent one is fine.
   */
  remove(tenantId: TenantId, call?: DriverCall): Promise<void>;
  /** Removes what `remove` leaves behind, and the runtime with it if there is one; read back, and for good. */
  erase(tenantId: TenantId, call?: DriverCall): Promise<void>;
  /** Lets go of the runtimes; they go on. */
  close(): Promise<void>;
};

export function absentRuntime(tenantId: TenantId): ObservedRuntime {
  return { tenantId, state: "absent", address: undefined, image: "", specHash: "", reason: undefined, drift: [] };
}
