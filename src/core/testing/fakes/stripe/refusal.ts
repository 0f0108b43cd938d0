/** What Stripe answers instead of an object, thrown by whatever finds the request wrong. */
export class Refusal extends Error {
  readonly status: number;
  readonly detail: Record<string, unknown>;
  readonly headers: Record<string, string>;

  constructor(
    status: number,
    detail: { type: string; message: string; code?: string; param?: string },
    headers: Record<string, string> = {},
  ) {
    super(detail.message);
    this.status = status;
    this.headers = headers;
    const { code } = detail;
    const docs =
      code === undefined ? {} : { doc_url: `https://stripe.com/docs/error-codes/${code.replace(/_/g, "-")}` };
    this.detail = { ...docs, ...detail };
  }
}

export function invalid(message: string, param?: string, code?: string): Refusal {
  return new Refusal(400, {
    type: "invalid_request_error",
    message,
    ...(param === undefined ? {} : { param }),
    ...(code === undefined ? {} : { code }),
  });
}

export function rateLimited(): Refusal {
  return new Refusal(
    429,
    {
      type: "invalid_request_error",
      code: "rate_limit",
      message: "Testmode request rate limit exceeded, the rate limits in testmode are lower than livemode.",
    },
    { "stripe-rate-limited-reason": "endpoint-rate", "stripe-should-retry": "false" },
  );
}
