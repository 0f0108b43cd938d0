/** Builds dist/: the command line with every command split off, and the programs that run on their own. */
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { build, type BuildOptions, type OutputFile } from "esbuild";

const root = path.resolve(import.meta.dirname, "..");
const manifest = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8")) as {
  dependencies: Record<string, string>;
};

/** Small, and on the path of every command: bundled, they load three times faster. The rest stays in node_modules. */
const BUNDLED = ["commander", "kysely", "pg", "pino", "zod", "cli-table3"];

const options = {
  absWorkingDir: root,
  outdir: "dist",
  bundle: true,
  format: "esm",
  platform: "node",
  target: "node22",
  sourcemap: true,
  logLevel: "warning",
  write: false,
  define: { OPENCLAW_BUILD: JSON.stringify(commit()) },
  external: [...Object.keys(manifest.dependencies).filter((name) => !BUNDLED.includes(name)), "pg-native"],
  // Bundled CommonJS packages call require().
  banner: {
    js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
  },
} satisfies BuildOptions;
const main = await build({ ...options, entryPoints: { main: "src/commands/main.ts" }, splitting: true });
// Apart and whole: it is copied to where a tenant's user can read it, without the rest of dist/.
const sandbox = await build({
  ...options,
  entryPoints: { "sandbox-runtime": "src/core/adapters/runtime/local/sandbox-runtime.ts" },
});
replaceOutput([...main.outputFiles, ...sandbox.outputFiles]);

// So that `npx openclaw` finds this checkout's command, and not the npm package of that name.
const bin = path.join(root, "node_modules", ".bin");
mkdirSync(bin, { recursive: true });
rmSync(path.join(bin, "openclaw"), { force: true });
symlinkSync("../../bin/openclaw.js", path.join(bin, "openclaw"));
chmodSync(path.join(root, "bin", "openclaw.js"), 0o755);

/** Puts the new files in place one by one and takes stale ones away last: a command that runs meanwhile finds either. */
function replaceOutput(files: readonly OutputFile[]): void {
  const folder = path.join(root, "dist");
  mkdirSync(folder, { recursive: true });
  for (const file of files) {
    const draft = `${file.path}.${process.pid}.tmp`;
    writeFileSync(draft, file.contents);
    renameSync(draft, file.path);
  }
  const current = new Set(files.map((file) => path.basename(file.path)));
  const stale = readdirSync(folder).filter((name) => !current.has(name) && !name.endsWith(".tmp"));
  for (const name of stale) rmSync(path.join(folder, name), { force: true });
}

/** What the build was made from; a package without its history says so. */
function commit(): string {
  try {
    return execFileSync("git", ["rev-parse", "--short", "HEAD"], {
      cwd: root,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  } catch {
    // No git, or no repository.
    return "unknown";
  }
}
