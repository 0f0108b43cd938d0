import { Command } from "commander";
import { describeContent, type SettingsInForce, readSettingsInForce } from "../../../core/orchestrator/orchestrator.ts";
import { printFields, printJson, printLine, printTable } from "../../output.ts";
import { withStore } from "../../session.ts";
import { formatTime } from "../../tenant/view.ts";
import { withEnvironment } from "../release-options.ts";

export function command(): Command {
  return new Command()
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw fleet settings show")
    .action(async ({ json }) =>
      withStore(async (store) => {
        const settings = await readSettingsInForce(withEnvironment(store));
        if (json) return printJson(settings);
        print(settings);
      }),
    );
}

function print(settings: SettingsInForce): void {
  const { inForce, release, environment, releases } = settings;
  printFields([
    ["new tenants get", release === undefined ? "no release yet" : `release ${release.id}`],
    ["image", inForce.image],
    ["basic", inForce.modelsByTier.basic.join(", ")],
    ["plus", inForce.modelsByTier.plus.join(", ")],
    ["says who", describeSource(settings)],
    ...(environment === undefined || environment.id === release?.id
      ? []
      : [["daemon's environment", `release ${environment.id}; it doesn't count`] as const]),
  ]);
  if (releases.length === 0) return;
  printLine("");
  printTable(
    ["RELEASE", "TENANTS", "MADE", "BY", "FAILED"],
    releases.map(({ id, tenants, createdAt, createdBy, failedReason }) => [
      String(id),
      String(tenants),
      formatTime(createdAt),
      createdBy,
      failedReason ?? "",
    ]),
  );
  printLine("");
  // Not in the table, which would cut off the tags by which they differ.
  printFields(releases.map((release) => [`release ${release.id}`, describeContent(release)]));
}

function describeSource({ source, release }: SettingsInForce): string {
  switch (source) {
    case "operator":
      return `the database, since ${formatTime(release?.currentAt ?? null)}`;
    case "daemons":
      return "the environment of the daemon that started last; it moves everybody when it changes";
    case "environment":
      return "the environment of this command; no daemon has said anything yet";
  }
}
