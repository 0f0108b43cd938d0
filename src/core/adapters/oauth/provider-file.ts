import { readFile } from "node:fs/promises";
import { z } from "zod";
import { ConfigError, errorMessage } from "../../platform/errors.ts";
import type { ProviderId } from "../../platform/ids.ts";
import { isLoopback } from "../../platform/loopback-url.ts";
import type { ProviderDefinition } from "./oauth-provider.ts";
import { canonicalScope } from "./scopes.ts";

/** What every request for a consent holds already. */
const OWN_PARAMETERS = [
  "response_type",
  "client_id",
  "redirect_uri",
  "scope",
  "state",
  "nonce",
  "code_challenge",
  "code_challenge_method",
];

const missing = { error: ({ input }: { input?: unknown }) => (input === undefined ? "is missing" : undefined) };
const url = z
  .string(missing)
  .refine(isSafe, "must be an https URL, or http on this machine, without user, password or #");
/** Null takes away what a built-in one has. */
const optionalUrl = url.nullish().transform((given) => given ?? undefined);
const words = z.string(missing).trim().min(1).max(200);
/** RFC 6749, appendix A.4. */
const scope = z.string().regex(/^[\x21\x23-\x5b\x5d-\x7e]+$/, "must be a scope: no spaces or quotes");
const scopes = z
  .array(scope, missing)
  .min(1)
  .transform((list) => [...new Set(list.map(canonicalScope))]);
const providerId = z
  .string(missing)
  .regex(/^[a-z][a-z0-9-]{1,30}[a-z0-9]$/, "must be 3 to 32 of a-z, 0-9 and -, such as my-calendar")
  .transform((text) => text as ProviderId);

const definitionSchema = z
  .strictObject({
    id: providerId,
    name: words,
    client: z
      .string()
      .regex(/^[a-z][a-z0-9-]{0,31}$/, "must be of a-z, 0-9 and -, such as google")
      .optional(),
    issuer: optionalUrl,
    authorizeUrl: url,
    tokenUrl: url,
    revokeUrl: optionalUrl,
    apiUrl: optionalUrl,
    scopes,
    neededScopes: scopes.optional(),
    access: z.array(words, missing).min(1),
    authorizeParams: z.record(z.string(), z.string()).default({}),
    clientAuth: z.enum(["post", "basic", "none"]).default("post"),
    needsRefreshToken: z.boolean().default(true),
    sharesGrant: z.boolean().default(false),
  })
  .transform((given): ProviderDefinition => {
    const { client = given.id, neededScopes = given.scopes, issuer, revokeUrl, apiUrl } = given;
    return { ...given, client, neededScopes, issuer, revokeUrl, apiUrl };
  })
  .superRefine(({ scopes: asked, neededScopes, authorizeParams }, { addIssue }) => {
    const report = (path: string[], message: string) => addIssue({ code: "custom", path, message });
    for (const needed of neededScopes)
      if (!asked.includes(needed)) report(["neededScopes"], `${needed} is not among scopes: nobody could grant it`);
    for (const name of OWN_PARAMETERS)
      if (Object.hasOwn(authorizeParams, name))
        report(["authorizeParams", name], "is what every request holds already");
  });

/** What else it holds is a mistake beside those of its entries. */
const fileSchema = z.looseObject({ providers: z.array(z.record(z.string(), z.unknown())) });

/**
 * `builtIn` with what `file` says over and beside it: `{"providers": [{"id": "gmail", "scopes": […]}, …]}`. An entry with the id of a
 * built-in one replaces the fields that it names; any other must be complete.
 * @throws ConfigError naming every mistake in the file.
 */
export async function readDefinitions(
  builtIn: readonly ProviderDefinition[],
  file: string | undefined,
): Promise<ProviderDefinition[]> {
  if (file === undefined) return [...builtIn];
  const whole = fileSchema.safeParse(await readJson(file));
  if (!whole.success) throw invalid(whole.error.issues.map((issue) => `${file}: ${describe(issue)}`));
  const known = new Map<unknown, ProviderDefinition>(builtIn.map((definition) => [definition.id, definition]));
  const seen = new Set<unknown>();
  const others = Object.keys(whole.data).filter((key) => key !== "providers");
  const problems = others.map((key) => `${file}: Unrecognized key: "${key}"`);
  for (const [index, entry] of whole.data.providers.entries()) {
    const { id } = entry;
    const name = typeof id === "string" ? id : `providers.${index}`;
    if (seen.has(id)) problems.push(`${file}: ${name}: is there twice`);
    const parsed = definitionSchema.safeParse({ ...known.get(id), ...entry });
    if (parsed.success) known.set(id, parsed.data);
    else problems.push(...parsed.error.issues.map((issue) => `${file}: ${name}: ${describe(issue)}`));
    seen.add(id);
  }
  if (problems.length > 0) throw invalid(problems);
  return [...known.values()];
}

function isSafe(text: string): boolean {
  const parsed = URL.parse(text);
  if (parsed === null || parsed.username !== "" || parsed.password !== "" || parsed.hash !== "") return false;
  return parsed.protocol === "https:" || (parsed.protocol === "http:" && isLoopback(parsed));
}

function describe({ path, message }: z.core.$ZodIssue): string {
  return path.length === 0 ? message : `${path.join(".")}: ${message}`;
}

function invalid(problems: string[]): ConfigError {
  return new ConfigError("providers_invalid", problems);
}

async function readJson(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, "utf8"));
  } catch (error) {
    throw new ConfigError("providers_unreadable", [`${file} can't be read: ${errorMessage(error)}`], { cause: error });
  }
}
