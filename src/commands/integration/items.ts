import type { ConnectionView } from "../../core/integrations/integrations.ts";
import {
  ConflictError,
  NotFoundError,
  OpenClawError,
  PartialError,
  UpstreamError,
} from "../../core/platform/errors.ts";
import type { TenantId } from "../../core/platform/ids.ts";
import { type Choice, connectionNotFound } from "./choice.ts";

/**
 * What became of one connection. `failed`: somebody outside did not do their part, it may go better later; `refused`: it can't be done
 * to a connection in that state; `absent`: there is none. `left-out`: likewise, but nobody asked for it by name.
 */
export type Outcome<Done extends string> = {
  result: Done | "failed" | "refused" | "absent" | "left-out";
  code: string | null;
  reason: string | null;
};

export type Item<Done extends string> = Outcome<Done> & {
  tenant: string;
  tenantId: TenantId;
  provider: string;
  account: string | null;
};

export function itemOf({ tenant, tenantId, provider, account }: ConnectionView) {
  return { tenant, tenantId, provider, account };
}

/** For those that were asked for by name and are not there. */
export function absentItems({ tenant, absent }: Choice): Item<never>[] {
  if (tenant === undefined) return [];
  return absent.map((provider) => {
    const { code, message: reason } = connectionNotFound(tenant.slug, provider);
    return { tenant: tenant.slug, tenantId: tenant.id, provider, account: null, result: "absent", code, reason };
  });
}

/** Words for what one connection ran into, so that the others go on. */
export function outcomeOf(error: unknown): Outcome<never> {
  if (!(error instanceof OpenClawError)) throw error;
  const { code, message: reason } = error;
  if (error instanceof ConflictError) return { result: "refused", code, reason };
  return { result: error instanceof NotFoundError ? "absent" : "failed", code, reason };
}

/** What the one connection that was asked for failed with; undefined for several, whose results are printed. */
export function onlyFailure({ tenant }: Choice, items: readonly Item<string>[]): Error | undefined {
  const [only, another] = items;
  if (tenant === undefined || only === undefined || another !== undefined) return undefined;
  const { provider, result, reason } = only;
  // One that is not there says of itself what it is about.
  return failureOf(
    only,
    result === "absent" ? (reason ?? result) : `${provider} of ${tenant.slug}: ${reason ?? result}`,
  );
}

/** @throws PartialError when only some succeeded; when none did, an error of the kind of what went wrong outside first. */
export function requireAll(items: readonly Item<string>[], verb: string): void {
  const meant = items.filter(({ result }) => result !== "left-out");
  const failed = meant.filter((item) => failureOf(item, "") !== undefined);
  const worst = failed.find(({ result }) => result === "failed") ?? failed[0];
  if (worst === undefined) return;
  const message = `${failed.length} of ${meant.length} could not be ${verb}.`;
  throw failed.length < meant.length
    ? new PartialError("some_failed", message)
    : failureOf({ ...worst, code: "all_failed" }, message);
}

function failureOf({ result, code }: Pick<Item<string>, "result" | "code">, message: string): Error | undefined {
  switch (result) {
    case "failed":
      return new UpstreamError(code ?? result, message, { service: "provider", retryable: true });
    case "refused":
      return new ConflictError(code ?? result, message);
    case "absent":
      return new NotFoundError(code ?? result, message);
    default:
      return undefined;
  }
}
