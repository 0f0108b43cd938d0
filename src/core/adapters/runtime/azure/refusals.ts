import { ConfigError, ConflictError, UpstreamError } from "../../../platform/errors.ts";
import type { StampId } from "../../../platform/ids.ts";

/** It has a name of ours and not our mark. */
export function foreign(what: string): ConflictError {
  return new ConflictError(
    "foreign_resource",
    `${what} exists and does not bear this control plane's mark: it is left alone. Remove or rename it by hand.`,
  );
}

export function stillThere(what: string): UpstreamError {
  return new UpstreamError("still_there", `${what} can still be read after removal; it is tried again.`, {
    service: "azure",
    retryable: true,
  });
}

export function unknownStamp(stampId: StampId): ConfigError {
  return new ConfigError("stamp_unknown", [
    `the stamp "${stampId}" is not configured here; add it to the file of OPENCLAW_STAMPS_FILE`,
  ]);
}
