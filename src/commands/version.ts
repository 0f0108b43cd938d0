import { Command } from "commander";
import { readVersion } from "../core/platform/version.ts";
import { printJson, printLine } from "./output.ts";

export function command(): Command {
  return new Command()
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw version --json")
    .action(({ json }) => {
      const { version, build } = readVersion();
      if (json) return printJson({ version, build, node: process.versions.node });
      printLine(`openclaw ${version} (build ${build}, Node ${process.versions.node})`);
    });
}
