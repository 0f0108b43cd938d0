import { z } from "zod";
import { UpstreamError } from "../platform/errors.ts";

/** What lies in the vault for a connection, as JSON; times in ISO 8601. `fence` and `grantId` say which of several writers it came from. */
export type TokenSet = z.infer<typeof schema>;

const schema = z.object({
  fence: z.number().int(),
  grantId: z.uuid(),
  /** When they were asked for. */
  obtainedAt: z.iso.datetime(),
  accessToken: z.string().min(1),
  /** Null: the provider did not say, or it does not expire. */
  accessExpiresAt: z.iso.datetime().nullable(),
  refreshToken: z.string().min(1).nullable(),
});

export function writeTokenSet(tokens: TokenSet): string {
  return JSON.stringify(schema.parse(tokens));
}

/** @throws UpstreamError for what nobody here has written. */
export function readTokenSet(text: string): TokenSet {
  const parsed = schema.safeParse(parseJson(text));
  if (parsed.success) return parsed.data;
  // The cause would repeat what lies there.
  throw new UpstreamError("tokens_unreadable", "What lies in the vault for a connection is no set of tokens.", {
    service: "vault",
    retryable: false,
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
