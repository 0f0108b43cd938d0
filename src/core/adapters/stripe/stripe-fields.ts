import { z } from "zod";

/** Printable, so that it fits a column and a terminal; Stripe's own limit is 255. */
export const stripeId = z.string().regex(/^[\x21-\x7e]{1,255}$/, "is not an id");

/** A related object comes as its id, or whole when the endpoint expands it. */
export const reference = z
  .union([stripeId, z.object({ id: stripeId }).transform(({ id }) => id), z.null()])
  .optional()
  .transform((id) => id ?? undefined);

/** What we once wrote there, or what somebody else did: unchecked text. */
export const metadata = z.object({ tenant_id: z.string().optional() }).nullish();

/** Until the year 9999: beyond it PostgreSQL and JavaScript no longer write times alike. */
export const seconds = z
  .int()
  .min(0)
  .max(253_402_300_799)
  .transform((value) => new Date(value * 1000));
export const optionalSeconds = seconds.nullish().transform((date) => date ?? undefined);

export const amountCents = z.int().min(0);

/** Those of the given texts that are there. */
export function tenantReferences(...texts: (string | null | undefined)[]): string[] {
  return texts.filter((text) => typeof text === "string");
}
