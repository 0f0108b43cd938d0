/**
 * What steers a terminal, breaks a line, or turns the direction of what follows: nothing that a name or a reason needs, and
 * everything that a forged line in an operator's table does. Joiners and single direction marks are part of languages.
 */
const STEERING = /[\p{Cc}\p{Cs}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu;

export function isPlainText(text: string): boolean {
  return text.search(STEERING) === -1;
}

/** `text` with what steers written out, such as `\u001b`, but for the characters in `kept`. */
export function toPlainText(text: string, kept = ""): string {
  return text.replace(STEERING, (character) =>
    kept.includes(character) ? character : `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
