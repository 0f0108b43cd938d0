import type pg from "pg";
import type { Config } from "../platform/config.ts";
import { findGatewayUrl } from "../platform/daemons.ts";
import { ConfigError } from "../platform/errors.ts";
import type { FleetSettings } from "./spec.ts";

/**
 * What every runtime depends on, as it is now: runtimes reach gateways as configured, else that of the fleet's oldest daemon that has one.
 * @throws ConfigError while there is no gateway.
 */
export async function readFleetSettings(ctx: { config: Config; pool: pg.Pool }): Promise<FleetSettings> {
  const { runtime, http } = ctx.config;
  const internalUrl = http.internalUrl ?? (await findGatewayUrl(ctx.pool));
  if (internalUrl !== undefined) return { image: runtime.image, modelsByTier: runtime.modelsByTier, internalUrl };
  throw new ConfigError("no_gateway", [
    "no daemon with the gateway role is alive; start one, or set OPENCLAW_INTERNAL_URL, e.g. http://gateway.internal:9090",
  ]);
}
