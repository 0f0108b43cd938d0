import assert from "node:assert/strict";
import test from "node:test";
import { loadConfig } from "../platform/config.ts";
import { machineChecks } from "./machine.ts";

async function judge(publicUrl: string) {
  const [addresses] = machineChecks(loadConfig({ OPENCLAW_PUBLIC_URL: publicUrl }).config);
  return addresses?.run();
}

test("people are led to a public address by https, or stay on this machine; anything else is warned of", async () => {
  for (const url of ["https://bot.example.com/claw", "http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]"])
    assert.equal((await judge(url))?.status, "ok", url);
  for (const url of ["http://bot.example.com", "http://192.168.1.4:8080", "http://127.0.0.1.example.com", ""])
    assert.equal((await judge(url))?.status, "warning", url);
});
