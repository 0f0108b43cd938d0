import { readFileSync } from "node:fs";
import path from "node:path";
import { packageRoot } from "./package-root.ts";

/** Set by the build: the commit it was made from. */
declare const OPENCLAW_BUILD: string | undefined;

/** Version and build that serve here, so that an older build that still runs can be seen (F85). */
export function readVersion(): { version: string; build: string } {
  const manifest = JSON.parse(readFileSync(path.join(packageRoot(), "package.json"), "utf8")) as { version: string };
  return { version: manifest.version, build: typeof OPENCLAW_BUILD === "string" ? OPENCLAW_BUILD : "source" };
}
