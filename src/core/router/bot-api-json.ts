import { UsageError } from "../platform/errors.ts";

export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

/** Deeper than anything the Bot API describes, and shallow enough to walk by recursion. */
const MAX_DEPTH = 64;

/**
 * Parses JSON that no two parsers can read differently: an object that repeats a key is refused, because one reader might check the first
 * value and another act on the second. Throws UsageError.
 */
export function parseStrictJson(text: string): Json {
  let value: Json;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new UsageError("malformed-json", "can't parse JSON", { cause });
  }
  refuseRepeatedKeys(text);
  return value;
}

/** Walks the tokens of valid JSON. Keys are compared decoded: `"\u0061"` is `"a"`. */
function refuseRepeatedKeys(text: string): void {
  const open: (Set<string> | undefined)[] = [];
  for (let at = 0; at < text.length; at += 1) {
    const char = text[at];
    if (char === "{" || char === "[") {
      open.push(char === "{" ? new Set() : undefined);
      if (open.length > MAX_DEPTH) throw new UsageError("malformed-json", "JSON is nested too deeply");
    } else if (char === "}" || char === "]") {
      open.pop();
    } else if (char === '"') {
      const end = closingQuote(text, at);
      const keys = open.at(-1);
      if (keys !== undefined && isFollowedByColon(text, end)) addKey(keys, text.slice(at, end + 1));
      at = end;
    }
  }
}

function addKey(keys: Set<string>, literal: string): void {
  const key = literal.includes("\\") ? String(JSON.parse(literal)) : literal.slice(1, -1);
  if (keys.has(key)) throw new UsageError("repeated-key", "a key is repeated in a JSON object");
  keys.add(key);
}

function closingQuote(text: string, openingQuote: number): number {
  let at = openingQuote + 1;
  while (text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
  return at;
}

function isFollowedByColon(text: string, end: number): boolean {
  let at = end + 1;
  while (text[at] === " " || text[at] === "\n" || text[at] === "\r" || text[at] === "\t") at += 1;
  return text[at] === ":";
}
