import type { StripeApi } from "../adapters/stripe/stripe-api.ts";
import { type Check, type CheckResult, failed, ok, warning } from "../platform/check.ts";
import type { Config, Secrets } from "../platform/config.ts";

type Settings = { config: Config; secrets: Secrets };

/** `open` undefined: there is no key. */
export function stripeChecks({ config, secrets }: Settings, open: (() => Promise<StripeApi>) | undefined): Check[] {
  return [
    { name: "stripe webhook", run: async () => checkWebhook(secrets) },
    { name: "stripe key", run: async () => checkKey(secrets, open) },
    { name: "stripe prices", run: async () => checkPrices(config, open) },
  ];
}

/** Without a secret the route answers 503: it is never open (F92). */
function checkWebhook({ stripeWebhookSecrets }: Secrets): CheckResult {
  if (stripeWebhookSecrets.length > 0) return ok(`${stripeWebhookSecrets.length} signing secret(s)`);
  return failed(
    "without a signing secret no event of Stripe's is accepted",
    "Add an endpoint for …/webhooks/stripe in Stripe's dashboard, and set STRIPE_WEBHOOK_SECRET to its whsec_…",
  );
}

async function checkKey(
  { stripeSecretKey: key = "" }: Secrets,
  open: (() => Promise<StripeApi>) | undefined,
): Promise<CheckResult> {
  if (open === undefined)
    return warning("no key: nobody can pay, and events are taken at their word", "Set STRIPE_SECRET_KEY to sk_live_…");
  // That there is no such price is an answer, too.
  await (await open()).findPrice("price_check");
  return ok(`Stripe takes it (${/_test_/.test(key) ? "test" : "live"} mode)`);
}

async function checkPrices(
  { stripe: { priceBasic, pricePlus } }: Config,
  open: (() => Promise<StripeApi>) | undefined,
): Promise<CheckResult> {
  if (open === undefined) return warning("not looked at: there is no key", "Set STRIPE_SECRET_KEY to sk_live_…");
  const api = await open();
  const wanted = [
    ["STRIPE_PRICE_BASIC", priceBasic],
    ["STRIPE_PRICE_PLUS", pricePlus],
  ] as const;
  const found = await Promise.all(wanted.map(([name, id]) => lookAt(api, name, id)));
  const problems = found.flatMap(({ problem }) => problem ?? []);
  if (problems.length === 0) return ok(found.flatMap(({ words }) => words ?? []).join(", "));
  return failed(problems.join("; "), "Set it to an active recurring price of this account and mode.");
}

async function lookAt(
  api: StripeApi,
  name: string,
  id: string | undefined,
): Promise<{ problem?: string; words?: string }> {
  if (id === undefined) return { problem: `${name} is not set` };
  const price = await api.findPrice(id);
  // Of another account, or of the other mode (F59).
  if (price === undefined) return { problem: `${name}: this key's account has no price ${id}` };
  if (!price.isActive) return { problem: `${name}: the price ${id} is archived` };
  if (!price.isRecurring) return { problem: `${name}: the price ${id} is for a single payment` };
  return { words: `${name} is ${id}` };
}
