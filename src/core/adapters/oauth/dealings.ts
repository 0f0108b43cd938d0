import type { AuthorizationServer, Client, ClientAuth } from "oauth4webapi";
import type { Clock } from "../../platform/clock.ts";
import type { ProviderDefinition } from "./oauth-provider.ts";

/** What all calls of one client at one provider need. */
export type Dealings = {
  definition: ProviderDefinition;
  server: AuthorizationServer;
  client: Client;
  clientAuth: ClientAuth;
  clock: Clock;
  timeoutMs: number;
};
