import { z } from "zod";
import { amountCents, metadata, reference, seconds, stripeId, tenantReferences } from "./stripe-fields.ts";

/** A charge's own words. `amountRefundedCents` is cumulative: it holds every partial refund so far (F62). */
export type ChargeFacts = {
  chargeId: string;
  invoiceId: string | undefined;
  paymentIntentId: string | undefined;
  amountCents: number;
  amountRefundedCents: number;
  /** All of it. */
  isRefunded: boolean;
  chargedAt: Date;
};

/** `lost` took the money back for good; a `warning_…` is an inquiry, for which no money moved. */
export type DisputeFacts = { chargeId: string; paymentIntentId: string | undefined; disputeStatus: string };

const charge = z.object({
  id: stripeId,
  customer: reference,
  metadata,
  created: seconds,
  amount: amountCents,
  amount_refunded: amountCents,
  refunded: z.boolean(),
  payment_intent: reference,
  // Told before 2025-03-31 only; null for what no invoice asked for.
  invoice: z.union([stripeId, z.object({ id: stripeId }).transform(({ id }) => id)]).nullish(),
});

/** Reads a charge; `isForInvoice` is false only when Stripe says so. @throws ZodError. */
export function readCharge(object: unknown) {
  const { id, customer, invoice, payment_intent, ...rest } = charge.parse(object);
  const facts: ChargeFacts = {
    chargeId: id,
    invoiceId: invoice ?? undefined,
    paymentIntentId: payment_intent,
    amountCents: rest.amount,
    amountRefundedCents: rest.amount_refunded,
    isRefunded: rest.refunded && rest.amount > 0,
    chargedAt: rest.created,
  };
  return {
    facts,
    customerId: customer,
    tenantReferences: tenantReferences(rest.metadata?.tenant_id),
    isForInvoice: invoice !== null,
  };
}

const dispute = z.object({
  charge: z.union([stripeId, z.object({ id: stripeId }).transform(({ id }) => id)]),
  payment_intent: reference,
  status: z.string().regex(/^[a-z_]{1,50}$/),
  metadata,
});

/** Reads a dispute, which names no customer. @throws ZodError. */
export function readDispute(object: unknown) {
  const { charge: chargeId, payment_intent, status, metadata: written } = dispute.parse(object);
  const facts: DisputeFacts = { chargeId, paymentIntentId: payment_intent, disputeStatus: status };
  return { facts, tenantReferences: tenantReferences(written?.tenant_id) };
}
