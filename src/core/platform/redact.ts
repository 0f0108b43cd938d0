const MASK = "[redacted]";

/** A signed URL is as good as a password; where it leads may be known. */
const QUERY = /(https?:\/\/[^\s?'"<>]+)\?[^\s'"<>]+/gi;
const BEARER = /\b(Bearer\s+)[\w.~+/=-]+/gi;
const WEB_TOKEN = /\beyJ[\w-]+\.[\w-]+\.[\w-]*/g;
const PARAMETER = /\b([\w-]*(?:sig|signature|password|secret|token|key)=)[^\s&"',;]+/gi;
const PROPERTY = /("[\w-]*(?:password|secret|token|key)"\s*:\s*")[^"]+/gi;
const HEADER = /\b((?:account|access|api)[-_]?key:\s*)[^\s,;]+/gi;

/** Text of somebody else's, such as an error's, without what looks like a secret in it. */
export function redactText(text: string): string {
  return text
    .replace(QUERY, `$1?${MASK}`)
    .replace(BEARER, `$1${MASK}`)
    .replace(WEB_TOKEN, MASK)
    .replace(PARAMETER, `$1${MASK}`)
    .replace(PROPERTY, `$1${MASK}`)
    .replace(HEADER, `$1${MASK}`);
}
