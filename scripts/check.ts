/** `npm run check`: everything that can be said about the code without running it. */
import { spawnSync } from "node:child_process";
import path from "node:path";
import { packageRoot } from "../src/core/platform/package-root.ts";

const CHECKS: readonly { title: string; command: string; args: readonly string[] }[] = [
  { title: "format", command: "oxfmt", args: ["--check"] },
  { title: "lint", command: "oxlint", args: ["--type-aware", "--deny-warnings"] },
  { title: "types", command: "tsc", args: ["--noEmit"] },
  { title: "schema types", command: "node", args: ["scripts/schema-types.ts", "--verify"] },
];

for (const { title, command, args } of CHECKS) {
  const start = performance.now();
  const program = path.join(packageRoot(), "node_modules/.bin", command);
  const { status, stdout, stderr, error } = spawnSync(program, args, { cwd: packageRoot(), encoding: "utf8" });
  const seconds = ((performance.now() - start) / 1_000).toFixed(1);
  console.log(`${status === 0 ? "ok    " : "failed"}  ${title}  ${seconds} s`);
  if (status === 0) continue;
  console.log(error?.message ?? `${stdout}${stderr}`.trimEnd());
  process.exitCode = 1;
}
