import { Command } from "commander";
import type { Provider } from "../../core/adapters/oauth/oauth-provider.ts";
import { openProviders } from "../../core/context.ts";
import { connectRedirectUri } from "../../core/integrations/integrations.ts";
import { systemClock } from "../../core/platform/clock.ts";
import { oauthClientVariables } from "../../core/platform/config.ts";
import { printJson, printTable, say } from "../output.ts";
import { loadSettings } from "../session.ts";

export function command(): Command {
  return new Command()
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw integration providers")
    .action(async ({ json }) => {
      const settings = await loadSettings();
      const { publicUrl } = settings.config.http;
      const providers = (await openProviders({ ...settings, clock: systemClock })).list();
      if (json) return printJson({ providers: providers.map((provider) => describe(provider, publicUrl)) });
      printTable(
        ["ID", "NAME", "CLIENT", "SCOPES", "ACCESS"],
        providers.map(({ definition, client }) => [
          definition.id,
          definition.name,
          client === undefined
            ? `not configured: set ${oauthClientVariables(definition.client).join(", ")}`
            : "configured",
          definition.scopes.map(shorten).join(" "),
          definition.access.join("; "),
        ]),
      );
      if (publicUrl === undefined) say("OPENCLAW_PUBLIC_URL is not set: nobody could come back from a provider.");
      else say(`Register this redirect URI with each provider's client: ${publicUrl}/oauth/<id>/callback`);
    });
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

/** Google's scopes all begin in the same way. */
function shorten(scope: string): string {
  return scope.replace("https://www.googleapis.com/auth/", "");
}
