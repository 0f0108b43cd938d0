import { type Check, ok, warning } from "../../../platform/check.ts";
import { isolation, prepareRoot } from "./isolation.ts";
import { findProgram } from "./program.ts";

/** Whether runtimes can be started on this machine, and what walls them off from each other. */
export function localRuntimeChecks({ root, binary }: { root: string; binary: string | undefined }): Check[] {
  return [
    {
      name: "runtime program",
      async run() {
        const { kind, name } = await findProgram(binary);
        if (kind === "real") return ok(name);
        return warning(`${name}: it answers, but is no assistant`, "Set OPENCLAW_RUNTIME_BIN to a real OpenClaw.");
      },
    },
    {
      name: "isolation",
      async run() {
        await prepareRoot(root);
        if (isolation() === "uid-per-tenant") return ok("every tenant has a user of its own");
        return warning(
          "not started as root: all tenants and the control plane are one trust domain",
          "Run daemons as root, which gives every tenant a user of its own, or let only people in who trust each other.",
        );
      },
    },
  ];
}
