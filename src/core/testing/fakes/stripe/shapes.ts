import { z } from "zod";
import type { ApiShape } from "../stripe-events.ts";
import type { Account, Body } from "./account.ts";

export type { ApiShape } from "../stripe-events.ts";

/** The shape that requests of an API version such as `2024-06-20` or `2025-03-31.basil` are answered in. */
export function shapeOf(version: string | undefined): ApiShape {
  return version !== undefined && version.slice(0, 10) < "2025-03-31" ? "acacia" : "basil";
}

const subscription = z.looseObject({
  items: z.looseObject({
    data: z.array(z.looseObject({ current_period_start: z.int(), current_period_end: z.int() })),
  }),
});
const invoice = z.looseObject({
  parent: z
    .object({
      subscription_details: z.object({ subscription: z.string(), metadata: z.record(z.string(), z.string()) }),
    })
    .nullable(),
});

/** An object as API versions before and since 2025-03-31 show it. */
export function inShape(account: Account, body: Body, shape: ApiShape): Record<string, unknown> {
  if (shape === "basil") return body;
  switch (body.object) {
    case "subscription":
      return oldSubscription(body);
    case "invoice":
      return oldInvoice(account, body);
    case "charge":
      return { ...body, invoice: account.payments.find(({ charge }) => charge === body.id)?.invoice ?? null };
    default:
      return body;
  }
}

function oldSubscription(body: Body): Record<string, unknown> {
  const { items, ...rest } = subscription.parse(body);
  const [first] = items.data;
  return {
    ...rest,
    current_period_start: first?.current_period_start,
    current_period_end: first?.current_period_end,
    items: {
      ...items,
      data: items.data.map(({ current_period_start: _start, current_period_end: _end, ...item }) => item),
    },
  };
}

function oldInvoice(account: Account, body: Body): Record<string, unknown> {
  const { parent, ...rest } = invoice.parse(body);
  const payment = account.payments.find((one) => one.invoice === body.id);
  return {
    ...rest,
    charge: payment?.charge ?? null,
    payment_intent: payment?.paymentIntent ?? null,
    subscription: parent?.subscription_details.subscription ?? null,
    subscription_details: { metadata: parent?.subscription_details.metadata ?? null },
  };
}
