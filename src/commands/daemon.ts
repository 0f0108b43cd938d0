import { Command, InvalidArgumentError, Option } from "commander";
import { createLog } from "../core/platform/log.ts";
import { loadSettings } from "./session.ts";
import { runDaemon } from "../daemon/daemon.ts";
import { ROLES, type Role } from "../daemon/parts.ts";

/** How long what is under way may take to end. */
const GRACE_MS = 30_000;

export function command(): Command {
  return new Command()
    .addOption(
      new Option("--roles <roles>", `comma-separated, of ${ROLES.join(", ")}`)
        .argParser(parseRoles)
        .default([...ROLES], "all of them"),
    )
    .addHelpText("after", "\nExample:\n  openclaw daemon --roles web,worker")
    .action(async ({ roles }: { roles: Role[] }) => {
      const { config, secrets } = await loadSettings();
      const log = createLog(config.logLevel);
      const stopping = new AbortController();
      let interrupted = false;
      const stop = (signal: NodeJS.Signals) => {
        // A second Ctrl-C means now.
        if (stopping.signal.aborted && signal === "SIGINT") process.exit(130);
        interrupted ||= signal === "SIGINT";
        log.info({ signal }, "stopping");
        stopping.abort();
        setTimeout(() => {
          log.error({}, "what was under way did not end in time");
          process.exit(1);
        }, GRACE_MS).unref();
      };
      process.on("SIGTERM", stop);
      process.on("SIGINT", stop);
      await runDaemon({ config, secrets, log, roles }, stopping.signal);
      if (interrupted) stopping.signal.throwIfAborted();
    });
}

function parseRoles(text: string): Role[] {
  const roles = text.split(",").map((word) => ROLES.find((role) => role === word.trim()));
  const known = roles.filter((role) => role !== undefined);
  if (known.length < roles.length)
    throw new InvalidArgumentError(`It must be some of ${ROLES.join(", ")}, separated by commas.`);
  return [...new Set(known)];
}
