import { readFileSync } from "node:fs";
import path from "node:path";

let found: string | undefined;

/** The folder of this package, the same whether the code runs from src/ or bundled from dist/. */
export function packageRoot(): string {
  found ??= findRoot(import.meta.dirname);
  return found;
}

function findRoot(folder: string): string {
  if (packageName(folder) === "openclaw-control-plane") return folder;
  const parent = path.dirname(folder);
  if (parent === folder) throw new Error(`No package.json of openclaw-control-plane above ${import.meta.dirname}`);
  return findRoot(parent);
}

function packageName(folder: string): unknown {
  try {
    const manifest: unknown = JSON.parse(readFileSync(path.join(folder, "package.json"), "utf8"));
    return typeof manifest === "object" && manifest !== null && "name" in manifest ? manifest.name : undefined;
  } catch (error) {
    // Most folders on the way up have none.
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}
