#!/usr/bin/env node
// Plain JavaScript that any Node can read: says what to do on an old one, or hands over to the Node that the project pins.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import module from "node:module";
import { fileURLToPath } from "node:url";

const [major, minor] = process.versions.node.split(".").map(Number);
if (major > 22 || (major === 22 && minor >= 18)) {
  module.enableCompileCache?.();
  // Started by an older Node: end when that launcher is killed, so that the two are one process to whoever watches them.
  if (process.env.OPENCLAW_LAUNCHED === "1") {
    process.once("disconnect", () => process.exit(137));
    process.channel?.unref();
  }
  await import("../dist/main.js");
} else {
  const pinned = fileURLToPath(new URL("../node_modules/node/bin/node", import.meta.url));
  if (existsSync(pinned)) handOver(pinned);
  else {
    console.error(
      `openclaw needs Node 22.18 or newer, this is ${process.versions.node}. Run \`npm ci\` in the project: it brings Node 24.`,
    );
    process.exitCode = 3;
  }
}

function handOver(node) {
  const child = spawn(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], {
    stdio: ["inherit", "inherit", "inherit", "ipc"],
    env: { ...process.env, OPENCLAW_LAUNCHED: "1" },
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  child.on("exit", (code, signal) => {
    if (signal) {
      process.removeAllListeners(signal);
      process.kill(process.pid, signal);
    } else process.exitCode = code ?? 1;
  });
}
