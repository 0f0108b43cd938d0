import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { splitText } from "./split-text.ts";

test("a text that fits is one message", () => {
  assert.deepEqual(splitText("Hello.\n\nSecond paragraph."), ["Hello.\n\nSecond paragraph."]);
});

test("a blank text makes no message", () => {
  assert.deepEqual(splitText(" \n\n "), []);
});

test("a long text is cut between paragraphs (F22)", () => {
  assert.deepEqual(splitText("one two\n\nthree\nfour\n\nfive", 20), ["one two\n\nthree\nfour", "five"]);
});

test("a long paragraph is cut between lines, then between words", () => {
  assert.deepEqual(splitText("aaa bbb\nccc ddd", 10), ["aaa bbb", "ccc ddd"]);
  assert.deepEqual(splitText("aaa bbb ccc", 8), ["aaa bbb", "ccc"]);
});

test("a word longer than a message is cut, but never inside a surrogate pair", () => {
  assert.deepEqual(splitText("🦞🦞🦞", 3), ["🦞", "🦞", "🦞"]);
});

test("every part fits, none is blank, and nothing but white space is lost (F22)", () => {
  const text = fc.string({ unit: fc.constantFrom("a", "b", " ", "\n", "\n\n", "🦞"), maxLength: 200 });
  fc.assert(
    fc.property(text, fc.integer({ min: 2, max: 40 }), (value, limit) => {
      const parts = splitText(value, limit);
      assert.ok(parts.every((part) => part.length <= limit && part.trim() !== "" && part.isWellFormed()));
      assert.equal(parts.join("").replace(/\s/g, ""), value.replace(/\s/g, ""));
    }),
  );
});
