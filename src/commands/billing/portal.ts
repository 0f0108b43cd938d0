import { Command } from "commander";
import { openPortal } from "../../core/billing/billing.ts";
import { getTenant } from "../../core/tenants/tenants.ts";
import { printJson, printLine, say } from "../output.ts";
import { drawQrCode } from "../qr-code.ts";
import { withStore } from "../session.ts";
import { webAddress } from "../tenant/options.ts";
import { openStripe, returnUrlOf } from "./stripe.ts";

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id")
    .option("--return-url <url>", "where the page leads back to; left out: OPENCLAW_SIGNUP_URL", webAddress)
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw billing portal alice")
    .action(async (reference: string, { returnUrl: given, json }) =>
      withStore(async (store) => {
        const stripe = await openStripe(store);
        const returnUrl = returnUrlOf(store.config, { name: "--return-url", given });
        const tenant = await getTenant(store.db, reference);
        const { url, customerId } = await openPortal({ ...store, stripe }, tenant, returnUrl);
        if (json) return printJson({ tenant: tenant.slug, url, customer: customerId });
        printLine(url);
        await drawQrCode(url);
        say("Valid for a few minutes.");
      }),
    );
}
