/** The longest text of one message, in UTF-16 units, which is how the Bot API counts. */
const MAX_MESSAGE_UNITS = 4_096;

/**
 * Cuts `text` into messages of at most `limit` UTF-16 units: between paragraphs where possible, else between lines, else between
 * words, else inside a word but never inside a surrogate pair. White space at a cut is dropped, and blank messages are never made.
 */
export function splitText(text: string, limit: number = MAX_MESSAGE_UNITS): string[] {
  const parts: string[] = [];
  let rest = text.trim();
  while (rest.length > limit) {
    const cut = cutPosition(rest, limit);
    parts.push(rest.slice(0, cut).trimEnd());
    rest = rest.slice(cut).trimStart();
  }
  if (rest !== "") parts.push(rest);
  return parts;
}

function cutPosition(text: string, limit: number): number {
  for (const separator of ["\n\n", "\n", " "]) {
    const position = text.lastIndexOf(separator, limit);
    if (position > 0) return position;
  }
  return isHighSurrogate(text.charCodeAt(limit - 1)) && limit > 1 ? limit - 1 : limit;
}

function isHighSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdbff;
}
