/** Builds dist/: the command line with every command split off, and the programs that run on their own. */
import { chmodSync, mkdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import path from "node:path";
import { build, type BuildOptions } from "esbuild";

const root = path.resolve(import.meta.dirname, "..");
const manifest = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8")) as {
  dependencies: Record<string, string>;
};

/** Small, and on the path of every command: bundled, they load three times faster. The rest stays in node_modules. */
const BUNDLED = ["commander", "kysely", "pg", "pino", "zod", "cli-table3"];

rmSync(path.join(root, "dist"), { recursive: true, force: true });
const options = {
  absWorkingDir: root,
  outdir: "dist",
  bundle: true,
  format: "esm",
  platform: "node",
  target: "node22",
  sourcemap: true,
  logLevel: "warning",
  external: [...Object.keys(manifest.dependencies).filter((name) => !BUNDLED.includes(name)), "pg-native"],
  // Bundled CommonJS packages call require().
  banner: {
    js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
  },
} satisfies BuildOptions;
await build({ ...options, entryPoints: { main: "src/commands/main.ts" }, splitting: true });
// Apart and whole: it is copied to where a tenant's user can read it, without the rest of dist/.
await build({ ...options, entryPoints: { "sandbox-runtime": "src/core/adapters/runtime/local/sandbox-runtime.ts" } });

// So that `npx openclaw` finds this checkout's command, and not the npm package of that name.
const bin = path.join(root, "node_modules", ".bin");
mkdirSync(bin, { recursive: true });
rmSync(path.join(bin, "openclaw"), { force: true });
symlinkSync("../../bin/openclaw.js", path.join(bin, "openclaw"));
chmodSync(path.join(root, "bin", "openclaw.js"), 0o755);
