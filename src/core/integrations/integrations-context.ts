import type { Providers } from "../adapters/oauth/oauth-provider.ts";
import type { Vault } from "../adapters/vault/vault.ts";
import type { Log } from "../platform/log.ts";
import type { TenantsContext } from "../tenants/tenants.ts";
import type { ConnectionEvent } from "./events.ts";

export type IntegrationsContext = TenantsContext & {
  vault: Vault;
  providers: Providers;
  log: Log;
  /** From 0 to 1, for waits that should not end together; chance unless told. */
  random?: () => number;
  /** Hears of everything that was done about a connection once it is recorded. */
  observe?: (event: ConnectionEvent) => void;
};
