import assert from "node:assert/strict";
import test from "node:test";
import { isPlainText, toPlainText } from "./plain-text.ts";

test("what steers a terminal, breaks a line or turns its direction is told from what languages need", () => {
  for (const text of ["\u001b[2J", "a\nb", "\0", "\u007f", "\u009b1m", "\u202e", "\u2066", "\u2028", "\ud800"])
    assert.equal(isPlainText(text), false, JSON.stringify(text));
  for (const text of ["Ålice ✓", "日本語", "👩‍👩‍👧", "می‌خواهم", "שלום\u200f!", "😀"]) {
    assert.equal(isPlainText(text), true, text);
    assert.equal(toPlainText(text), text);
  }
});

test("what steers is written out, all of it and nothing else", () => {
  assert.equal(toPlainText("a\u001b[2J\u202eb\ud800\nc😀"), "a\\u001b[2J\\u202eb\\ud800\\u000ac😀");
  assert.equal(toPlainText("a\n\tb\r", "\n\t"), "a\n\tb\\u000d");
});
