import { type EventBody, type EventOptions, stripeEvent } from "./stripe-events.ts";

export type ChargeOptions = EventOptions & {
  type?: "succeeded" | "refunded";
  charge?: string;
  customer?: string;
  amountCents?: number;
  /** All refunds so far. */
  amountRefundedCents?: number;
  /** When it was made, in Unix seconds. */
  charged?: number;
  /** Told before 2025-03-31 only; null: no invoice asked for it. */
  invoice?: string | null;
};

export function chargeEvent(options: ChargeOptions): EventBody {
  const { type = "refunded", charge = "ch_1", customer = "cus_1", amountCents = 2000, shape = "basil" } = options;
  const { amountRefundedCents = type === "refunded" ? amountCents : 0, created, tenantId } = options;
  const object = {
    id: charge,
    object: "charge",
    amount: amountCents,
    amount_captured: amountCents,
    amount_refunded: amountRefundedCents,
    captured: true,
    created: options.charged ?? created,
    currency: "usd",
    customer,
    disputed: false,
    ...(shape === "acacia" ? { invoice: options.invoice ?? null } : {}),
    metadata: tenantId === undefined ? {} : { tenant_id: tenantId },
    paid: true,
    payment_intent: `pi_of_${charge}`,
    refunded: amountRefundedCents === amountCents,
    status: "succeeded",
  };
  return stripeEvent(`charge.${type}`, object, options);
}

export type DisputeOptions = EventOptions & { type: "created" | "closed"; charge?: string; status: string };

export function disputeEvent({ type, charge = "ch_1", status, ...options }: DisputeOptions): EventBody {
  const object = {
    id: `du_of_${charge}`,
    object: "dispute",
    amount: 2000,
    charge,
    created: options.created,
    currency: "usd",
    is_charge_refundable: status.startsWith("warning_"),
    metadata: {},
    payment_intent: `pi_of_${charge}`,
    reason: "fraudulent",
    status,
  };
  return stripeEvent(`charge.dispute.${type}`, object, options);
}

export function customerDeletedEvent({
  customer = "cus_1",
  ...options
}: EventOptions & { customer?: string }): EventBody {
  const object = {
    id: customer,
    object: "customer",
    created: options.created,
    email: "subscriber@example.com",
    metadata: {},
  };
  return stripeEvent("customer.deleted", object, options);
}
