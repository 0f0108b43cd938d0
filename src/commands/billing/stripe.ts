import type { StripeApi } from "../../core/adapters/stripe/stripe-api.ts";
import type { Config, Secrets } from "../../core/platform/config.ts";
import { ConfigError } from "../../core/platform/errors.ts";

/** @throws ConfigError without a key. */
export async function openStripe({ config, secrets }: { config: Config; secrets: Secrets }): Promise<StripeApi> {
  const { stripeSecretKey: secretKey } = secrets;
  if (secretKey === undefined)
    throw new ConfigError("stripe_unconfigured", ["STRIPE_SECRET_KEY is not set; expected sk_live_… or sk_test_…"]);
  const { createStripeApi } = await import("../../core/adapters/stripe/stripe-api.ts");
  return createStripeApi({ secretKey, apiBase: config.stripe.apiBase });
}

/**
 * Where Stripe's pages lead back to.
 * @throws ConfigError when nothing says.
 */
export function returnUrlOf({ tenancy, http }: Config, option: { name: string; given: string | undefined }): string {
  const url = option.given ?? tenancy.signupUrl ?? http.publicUrl;
  if (url !== undefined) return url;
  throw new ConfigError("return_url_missing", [
    `OPENCLAW_SIGNUP_URL is not set, so that Stripe's page would lead nowhere; expected https://example.com/signup, or ${option.name}`,
  ]);
}
