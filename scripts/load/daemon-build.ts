import { mkdirSync } from "node:fs";
import path from "node:path";
import { buildSync } from "esbuild";
import { packageRoot } from "../../src/core/platform/package-root.ts";

let built: string | undefined;

/** The load tests' daemon as one file, as `npm run build` would make it: run from its sources it starts slower and weighs more. */
export function buildDaemon(): string {
  if (built !== undefined) return built;
  const folder = path.join(packageRoot(), "node_modules", ".cache", "openclaw-load");
  mkdirSync(folder, { recursive: true });
  built = path.join(folder, `daemon-${process.pid}.mjs`);
  buildSync({
    entryPoints: [path.join(import.meta.dirname, "daemon.ts")],
    outfile: built,
    bundle: true,
    format: "esm",
    platform: "node",
    packages: "external",
    define: { OPENCLAW_BUILD: '"load"' },
    logLevel: "warning",
  });
  return built;
}
