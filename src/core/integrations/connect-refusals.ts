import type { ProviderDefinition } from "../adapters/oauth/oauth-provider.ts";

/** Why nothing can be connected here, or not by this link. */
export type OfferRefusal =
  | { kind: "unknown-provider" }
  | { kind: "not-configured"; provider: ProviderDefinition }
  | { kind: "link-unknown" }
  | { kind: "link-expired" }
  | { kind: "link-used" }
  | { kind: "link-replaced" }
  /** The connection was ended since. */
  | { kind: "link-ended" }
  | { kind: "tenant-gone" };

/** Why what came back from a provider is not taken. */
export type StateRefusal =
  | { kind: "state-unknown" }
  | { kind: "state-expired" }
  | { kind: "state-used" }
  | { kind: "other-provider" }
  | { kind: "other-browser" };

/** Why nothing was connected after the person had been at the provider's. */
export type ConsentRefusal =
  /** The answer is not one to our question. */
  | { kind: "foreign"; code: string }
  | { kind: "overtaken" }
  | { kind: "denied" | "too-late" | "client-refused" | "unavailable"; provider: ProviderDefinition; code: string }
  | { kind: "not-lasting"; provider: ProviderDefinition }
  | { kind: "scopes-missing"; provider: ProviderDefinition; missing: readonly string[] };

export type ConnectRefusal = OfferRefusal | { kind: "crowded" } | StateRefusal | ConsentRefusal;
