import { Command, Option } from "commander";
import { openProviders } from "../../core/context.ts";
import { CONNECTION_STATES, viewConnections } from "../../core/integrations/integrations.ts";
import { printJson, say } from "../output.ts";
import { withStore } from "../session.ts";
import { collect } from "../tenant/options.ts";
import { selectTenantsOrAll, withTenantSelectors } from "../tenant/selection.ts";
import { ofProviders } from "./choice.ts";
import { printConnections } from "./view.ts";

export function command(): Command {
  return withTenantSelectors(new Command().argument("[tenants...]", "slugs or ids; left out: all"))
    .option("--provider <provider>", "only of this one; may be repeated", collect)
    .addOption(new Option("--state <state...>", "only those that are one of these").choices(CONNECTION_STATES))
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw integration list --state expired error")
    .action(async (references: string[], { provider = [], state, json, ...selectors }) =>
      withStore(async (store) => {
        const providers = await openProviders(store);
        const tenants = await selectTenantsOrAll(store.db, references, selectors);
        const all = ofProviders(providers, await viewConnections({ ...store, providers }, tenants), provider);
        const connections = state === undefined ? all : all.filter((one) => state.includes(one.state));
        if (json) return printJson({ connections });
        if (connections.length === 0)
          return say("No connections. Make one with: openclaw integration connect <tenant> <provider>");
        printConnections(connections);
        if (connections.some(({ state, remedy }) => state !== "revoked" && remedy !== null))
          say("What helps is said by: openclaw integration show <tenant> <provider>");
      }),
    );
}
