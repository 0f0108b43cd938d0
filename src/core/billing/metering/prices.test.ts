import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { BUILT_IN_PRICES } from "./built-in-prices.ts";
import { ceilingOf, costOf, createPriceTable, findPrice, type ModelPrice } from "./prices.ts";
import { countTokens, NO_USAGE } from "./usage.ts";

const table = createPriceTable();

function price(model: string): ModelPrice {
  const found = findPrice(table, model);
  assert.ok(found, model);
  return found;
}

test("a call costs what its kinds of tokens cost, in micro-USD", () => {
  const usage = {
    inputTokens: 1_000,
    outputTokens: 200,
    cacheReadTokens: 10_000,
    cacheWriteTokens: 3_000,
    cacheWriteHourTokens: 1_000,
  };
  // 1,000 × 1 + 200 × 5 + 10,000 × 0.1 + 2,000 × 1.25 + 1,000 × 2 dollars for a million.
  assert.equal(costOf(usage, price("claude-haiku-4-5")), 1_000 + 1_000 + 1_000 + 2_500 + 2_000);
  assert.equal(countTokens(usage), 4_200);
});

test("a part of a micro-USD is rounded up, and nothing costs nothing", () => {
  assert.equal(costOf({ ...NO_USAGE, cacheReadTokens: 1 }, price("claude-haiku-5-5")), 1);
  assert.equal(costOf(NO_USAGE, price("claude-haiku-5-5")), 0);
});

test("a long prompt costs more for the whole call, its caches counted in", () => {
  const usage = { ...NO_USAGE, inputTokens: 50_000, outputTokens: 1_000, cacheReadTokens: 50_000 };
  assert.equal(costOf(usage, price("claude-haiku-5-5")), 5_000 + 500 + 500);
  assert.equal(costOf({ ...usage, cacheReadTokens: 50_001 }, price("claude-haiku-5-5")), 25_000 + 2_500 + 2_501);
});

test("a dated snapshot costs what its model costs, and another model has no price", () => {
  assert.equal(findPrice(table, "claude-haiku-4-5-20251001"), BUILT_IN_PRICES["claude-haiku-4-5"]);
  assert.equal(findPrice(table, "gpt-5-2025-08-07"), BUILT_IN_PRICES["gpt-5"]);
  for (const unknown of ["claude-haiku-4-5-preview", "gpt-5-1", "", "constructor"])
    assert.equal(findPrice(table, unknown), undefined);
});

test("other prices are another version, the same ones the same", () => {
  const own = { "house-model": price("gpt-5") };
  assert.equal(createPriceTable().version, table.version);
  assert.equal(createPriceTable(own).version, createPriceTable({ ...own }).version);
  assert.notEqual(createPriceTable(own).version, table.version);
});

test("no usage within a ceiling costs more than the ceiling", () => {
  const models = [...table.models.values()];
  fc.assert(
    fc.property(
      fc.constantFrom(...models),
      fc.nat(1_000_000),
      fc.nat(128_000),
      fc.tuple(fc.nat(100), fc.nat(100), fc.nat(100)),
      (model, inputTokens, outputTokens, [read, write, hour]) => {
        const ceiling = ceilingOf({ inputTokens, outputTokens }, model);
        const cacheReadTokens = Math.floor((inputTokens * read) / 200);
        const cacheWriteTokens = Math.floor((inputTokens * write) / 200);
        const usage = {
          inputTokens: inputTokens - cacheReadTokens - cacheWriteTokens,
          outputTokens,
          cacheReadTokens,
          cacheWriteTokens,
          cacheWriteHourTokens: Math.floor((cacheWriteTokens * hour) / 100),
        };
        assert.ok(costOf(usage, model) <= ceiling.costMicroUsd);
        assert.ok(countTokens(usage) <= ceiling.inputTokens + ceiling.outputTokens);
      },
    ),
  );
});
