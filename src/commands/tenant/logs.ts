import { createReadStream, existsSync } from "node:fs";
import { pipeline } from "node:stream/promises";
import { Command } from "commander";
import { runtimeName } from "../../core/adapters/runtime/azure/names.ts";
import { runtimeLogPath } from "../../core/adapters/runtime/local/local-driver.ts";
import { runtimesFolder } from "../../core/context.ts";
import { NotFoundError } from "../../core/platform/errors.ts";
import { getTenant } from "../../core/tenants/tenants.ts";
import { withStore } from "../session.ts";

function elsewhere(slug: string, app: string): NotFoundError {
  return new NotFoundError(
    "no_log",
    `The log of ${slug} is kept by Azure: az containerapp logs show --name ${app} --resource-group <that of its stamp> --follow`,
  );
}

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id")
    .addHelpText("after", "\nExample:\n  openclaw tenant logs alice | tail -50")
    .action(async (reference: string) =>
      withStore(async ({ db, config }) => {
        const tenant = await getTenant(db, reference);
        if (config.runtime.driver === "azure") throw elsewhere(tenant.slug, runtimeName(tenant.id));
        const file = runtimeLogPath(runtimesFolder(config), tenant.id);
        if (!existsSync(file)) {
          throw new NotFoundError(
            "no_log",
            `${tenant.slug} has no log on this machine (${tenant.status}); looked for ${file}`,
          );
        }
        await pipeline(createReadStream(file), process.stdout, { end: false });
      }),
    );
}
