import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import test from "node:test";
import { ConfigError } from "../../platform/errors.ts";
import { readPriceTable } from "./price-file.ts";
import { createPriceTable, findPrice } from "./prices.ts";

async function withFile(content: string, use: (file: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(path.join(tmpdir(), "prices-"));
  try {
    const file = path.join(folder, "prices.json");
    await writeFile(file, content);
    await use(file);
  } finally {
    await rm(folder, { recursive: true });
  }
}

test("a file adds models and replaces prices, in USD for a million tokens", async () => {
  const content = {
    "house-model": { input: 0.15, output: 0.6, contextTokens: 32_000, outputTokens: 4_096 },
    "gpt-5": { input: 1, output: 8, cacheRead: 0.1, contextTokens: 400_000, outputTokens: 128_000, imageTokens: 2_000 },
  };
  await withFile(JSON.stringify(content), async (file) => {
    const table = await readPriceTable(file);
    assert.deepEqual(findPrice(table, "house-model"), {
      input: 150_000,
      output: 600_000,
      cacheRead: 150_000,
      cacheWrite: 150_000,
      cacheWriteHour: 150_000,
      contextTokens: 32_000,
      outputTokens: 4_096,
      imageTokens: 12_000,
    });
    assert.equal(findPrice(table, "gpt-5")?.cacheRead, 100_000);
    assert.ok(findPrice(table, "claude-haiku-4-5"));
    assert.notEqual(table.version, createPriceTable().version);
  });
});

test("every mistake in a file is named, with the model it is about", async () => {
  const content = {
    a: { input: -1, output: 0.00000001, contextTokens: 1, outputTokens: 1 },
    b: { input: 1, extra: 2 },
  };
  await withFile(JSON.stringify(content), async (file) => {
    await assert.rejects(readPriceTable(file), (error) => {
      assert.ok(error instanceof ConfigError);
      for (const place of ["a.input", "a.output", "b.output", "b.contextTokens"])
        assert.match(error.message, new RegExp(place));
      return true;
    });
  });
  await withFile("not JSON", (file) => assert.rejects(readPriceTable(file), /OPENCLAW_PRICES_FILE .* can't be read/));
});
