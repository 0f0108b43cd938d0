/** What can be read again from Stripe, named as Stripe names its objects. */
export type StripeObjectKind = "subscription" | "invoice" | "charge" | "customer" | "dispute" | "checkout.session";

export type StripeApi = {
  /**
   * The object as webhooks carry it in `data.object`; undefined when Stripe has none with that id.
   * @throws UpstreamError when Stripe refuses or can't be reached.
   */
  retrieve(kind: StripeObjectKind, id: string, signal?: AbortSignal): Promise<Record<string, unknown> | undefined>;
};
