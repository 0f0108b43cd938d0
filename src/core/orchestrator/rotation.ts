import { addMs } from "../platform/clock.ts";
import { assertNever } from "../platform/errors.ts";
import type { RotationRow } from "./rotation-store.ts";

/** How long a gateway may go by what it looked up of a tenant's credentials. */
export const CREDENTIAL_CACHE_MS = 5_000;
/** From the new keys being made until a runtime is given them: by then every gateway knows them, whatever its clock says. */
const SPREAD_MS = CREDENTIAL_CACHE_MS + 1_000;
/**
 * The old keys hold for so long after the runtime was seen to have the new ones. What it had begun with the old ones may still come
 * in, and every gateway must have learnt until when they hold.
 */
export const GRACE_MS = 60_000;

/**
 * `minting`: the new keys are being made. `spreading`: they hold, and gateways get to know them. `adopting`: the runtime is to be told.
 * `switching`: it moves over. `overlapping`: it has them, the old ones hold a while longer. `retiring`: the old ones are removed.
 */
export type RotationPhase = "minting" | "spreading" | "adopting" | "switching" | "overlapping" | "retiring";

type Progress = Pick<RotationRow, "mintedAt" | "adoptedAt" | "expiresAt">;

/** Where a rotation stands; what is on its row decides, so that it goes on from there after any crash. */
export function phaseOf({ mintedAt, adoptedAt, expiresAt }: Progress, now: Date): RotationPhase {
  if (mintedAt === null) return "minting";
  if (adoptedAt === null) return now < addMs(mintedAt, SPREAD_MS) ? "spreading" : "adopting";
  if (expiresAt === null) return "switching";
  return now < expiresAt ? "overlapping" : "retiring";
}

/** In how many ms a phase that ends by itself does. */
export function restOf({ mintedAt, expiresAt }: Progress, now: Date): number {
  const end = expiresAt ?? (mintedAt === null ? now : addMs(mintedAt, SPREAD_MS));
  return Math.max(0, end.getTime() - now.getTime());
}

/** For people. */
export function describePhase(phase: RotationPhase): string {
  switch (phase) {
    case "minting":
      return "the new keys are being made";
    case "spreading":
    case "adopting":
      return "the new keys are made, the runtime has the old ones";
    case "switching":
      return "the runtime is to come up with the new keys, both hold";
    case "overlapping":
      return "the runtime has the new keys, the old ones hold a while longer";
    case "retiring":
      return "the runtime has the new keys, the old ones are being removed";
    default:
      return assertNever(phase);
  }
}
