import { Command } from "commander";
import type { Provider } from "../../core/adapters/oauth/oauth-provider.ts";
import { openProviders } from "../../core/context.ts";
import { connectRedirectUri } from "../../core/integrations/integrations.ts";
import { systemClock } from "../../core/platform/clock.ts";
import { oauthClientVariables } from "../../core/platform/config.ts";
import { printFields, printJson, printLine, say } from "../output.ts";
import { loadSettings } from "../session.ts";

export function command(): Command {
  return new Command()
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw integration providers")
    .action(async ({ json }) => {
      const settings = await loadSettings();
      const { publicUrl } = settings.config.http;
      const found = (await openProviders({ ...settings, clock: systemClock })).list();
      const providers = found.map((provider) => describe(provider, publicUrl));
      if (json) return printJson({ providers });
      for (const [index, provider] of providers.entries()) {
        if (index > 0) printLine("");
        print(provider);
      }
      if (publicUrl === undefined) say("OPENCLAW_PUBLIC_URL is not set: nobody could come back from a provider.");
    });
}

/** Whole, as ids are typed, and scopes and addresses pasted into a provider's console. */
function print({ id, name, configured, client, scopes, access, redirectUri }: ReturnType<typeof describe>): void {
  printFields([
    ["provider", id],
    ["name", name],
    ["client", configured ? "configured" : `not configured: set ${client.variables.join(" and ")}`],
    ["scopes", scopes.join(" ")],
    ["access", access.join("; ")],
    ["redirect", redirectUri ?? "–"],
  ]);
}

function describe({ definition, client }: Provider, publicUrl: string | undefined) {
  const { id, name, scopes, neededScopes, access, issuer, tokenUrl, revokeUrl } = definition;
  const variables = oauthClientVariables(definition.client);
  return {
    id,
    name,
    configured: client !== undefined,
    client: { name: definition.client, variables },
    issuer: issuer ?? null,
    tokenHost: new URL(tokenUrl).host,
    revocable: revokeUrl !== undefined,
    scopes,
    neededScopes,
    access,
    redirectUri: publicUrl === undefined ? null : connectRedirectUri(publicUrl, id),
  };
}
