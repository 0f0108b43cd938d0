import { Command, Option } from "commander";
import { openCheckout } from "../../core/billing/billing.ts";
import { getTenant } from "../../core/tenants/tenants.ts";
import { printJson, printLine, say } from "../output.ts";
import { drawQrCode } from "../qr-code.ts";
import { withStore } from "../session.ts";
import { webAddress } from "../tenant/options.ts";
import { formatTime } from "../tenant/view.ts";
import { openStripe, returnUrlOf } from "./stripe.ts";

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id")
    .addOption(
      new Option("--tier <tier>", "what is bought; left out: the tenant's").choices(["basic", "plus"] as const),
    )
    .option("--success-url <url>", "where the page leads after paying; left out: OPENCLAW_SIGNUP_URL", webAddress)
    .option("--cancel-url <url>", "and where without; left out: the same", webAddress)
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw billing checkout alice --tier plus")
    .action(async (reference: string, { tier, successUrl: given, cancelUrl, json }) =>
      withStore(async (store) => {
        const stripe = await openStripe(store);
        const successUrl = returnUrlOf(store.config, { name: "--success-url", given });
        const tenant = await getTenant(store.db, reference);
        const { priceBasic: basic, pricePlus: plus } = store.config.stripe;
        const link = await openCheckout({ ...store, stripe }, tenant, {
          prices: { basic, plus },
          successUrl,
          cancelUrl: cancelUrl ?? successUrl,
          ...(tier === undefined ? {} : { tier }),
        });
        const { url, customer, expiresAt } = link;
        if (customer.replaced !== undefined)
          say(`Stripe has no customer ${customer.replaced}; ${tenant.slug} is linked to ${customer.id} now.`);
        if (json) {
          const replaced = customer.replaced ?? null;
          return printJson({ tenant: tenant.slug, url, expiresAt, customer: customer.id, replacedCustomer: replaced });
        }
        printLine(url);
        await drawQrCode(url);
        if (expiresAt !== undefined) say(`Valid until ${formatTime(expiresAt)}.`);
      }),
    );
}
