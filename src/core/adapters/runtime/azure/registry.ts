import { type Dispatcher, request } from "undici";
import { UpstreamError } from "../../../platform/errors.ts";

export type ImageReference = { registry: string; repository: string; reference: string };

const HUB = "registry-1.docker.io";
/** What people call it. */
const HUB_NAMES = ["docker.io", "index.docker.io", HUB];
const TIMEOUT_MS = 10_000;
const MANIFESTS = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "application/vnd.docker.distribution.manifest.v2+json",
].join(", ");

/** Takes `ghcr.io/openclaw/openclaw:2026.9.6` apart; without a registry it is Docker Hub's, without a tag `latest`. */
export function parseImage(image: string): ImageReference {
  const [name = "", digest] = image.split("@");
  const slash = name.indexOf("/");
  const first = name.slice(0, slash);
  const hasRegistry = slash > 0 && (/[.:]/.test(first) || first === "localhost");
  const path = hasRegistry ? name.slice(slash + 1) : name;
  const colon = path.lastIndexOf(":");
  const repository = colon === -1 ? path : path.slice(0, colon);
  const isOnHub = !hasRegistry || HUB_NAMES.includes(first.toLowerCase());
  const tag = colon === -1 ? "latest" : path.slice(colon + 1);
  return {
    registry: isOnHub ? HUB : first.toLowerCase(),
    repository: !isOnHub || repository.includes("/") ? repository : `library/${repository}`,
    reference: digest ?? tag,
  };
}

/**
 * The digest of an image, by the OCI distribution protocol: anonymously, or, where the registry is one of the fleet's own, with
 * `readToken`'s Entra token, which an Azure registry exchanges for its own. Undefined when the registry has no such image (F33).
 * @throws UpstreamError when the registry can't be asked, or refuses.
 */
export async function resolveImage(
  image: string,
  options: { acrServers?: readonly string[]; readToken?: () => Promise<string>; dispatcher?: Dispatcher } = {},
): Promise<string | undefined> {
  const wanted = parseImage(image);
  const url = `https://${wanted.registry}/v2/${wanted.repository}/manifests/${wanted.reference}`;
  const first = await ask(url, options.dispatcher);
  const answer =
    first.status === 401
      ? await ask(url, options.dispatcher, await authorize(first.challenge, wanted, options))
      : first;
  if (answer.status === 200) return answer.digest ?? wanted.reference;
  if (answer.status === 404) return undefined;
  if (answer.status === 401 || answer.status === 403) throw refused(wanted);
  throw unanswered(wanted.registry, `it answers with status ${answer.status} for ${wanted.repository}`);
}

async function ask(url: string, dispatcher: Dispatcher | undefined, token?: string) {
  const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const { statusCode, headers, body } = await send(url, {
    method: "HEAD",
    headers: { accept: MANIFESTS, ...authorization },
    ...(dispatcher === undefined ? {} : { dispatcher }),
  });
  await body.dump();
  return {
    status: statusCode,
    digest: text(headers["docker-content-digest"]),
    challenge: text(headers["www-authenticate"]) ?? "",
  };
}

type Options = NonNullable<Parameters<typeof resolveImage>[1]>;

/** A token for reading the repository, as the registry's challenge says where to get one. */
async function authorize(challenge: string, wanted: ImageReference, options: Options): Promise<string> {
  const told = (name: string) => new RegExp(`${name}="([^"]+)"`).exec(challenge)?.[1];
  const [realm, service = wanted.registry] = [told("realm"), told("service")];
  if (realm === undefined) throw unanswered(wanted.registry, "it wants a login that is not known here");
  const scope = `repository:${wanted.repository}:pull`;
  if (options.acrServers?.includes(wanted.registry) !== true || options.readToken === undefined) {
    const query = new URLSearchParams({ service, scope });
    return tokenIn(await read(`${realm}?${query.toString()}`, options, "GET"), wanted.registry);
  }
  const origin = new URL(realm).origin;
  const exchange = new URLSearchParams({
    grant_type: "access_token",
    service,
    access_token: await options.readToken(),
  });
  const refreshToken = tokenIn(await read(`${origin}/oauth2/exchange`, options, "POST", exchange), wanted.registry);
  const ticket = new URLSearchParams({ grant_type: "refresh_token", service, scope, refresh_token: refreshToken });
  return tokenIn(await read(`${origin}/oauth2/token`, options, "POST", ticket), wanted.registry);
}

async function read(
  url: string,
  { dispatcher }: Options,
  method: "GET" | "POST",
  form?: URLSearchParams,
): Promise<unknown> {
  const { statusCode, body } = await send(url, {
    method,
    ...(form === undefined
      ? {}
      : { body: form.toString(), headers: { "content-type": "application/x-www-form-urlencoded" } }),
    ...(dispatcher === undefined ? {} : { dispatcher }),
  });
  const answer = await body.text();
  if (statusCode !== 200) throw unanswered(new URL(url).host, `its login answers with status ${statusCode}`);
  try {
    return JSON.parse(answer);
  } catch (error) {
    throw unanswered(new URL(url).host, "its login gives no JSON", error);
  }
}

async function send(url: string, options: Parameters<typeof request>[1]) {
  try {
    return await request(url, { ...options, headersTimeout: TIMEOUT_MS, bodyTimeout: TIMEOUT_MS });
  } catch (error) {
    throw unanswered(new URL(url).host, "it can't be reached", error);
  }
}

function tokenIn(answer: unknown, registry: string): string {
  for (const name of ["token", "access_token", "refresh_token"]) {
    const value: unknown = typeof answer === "object" && answer !== null ? Reflect.get(answer, name) : undefined;
    if (typeof value === "string" && value !== "") return value;
  }
  throw unanswered(registry, "its login gives no token");
}

function text(value: string | string[] | undefined): string | undefined {
  return typeof value === "string" ? value : value?.[0];
}

function refused({ registry, repository }: ImageReference): UpstreamError {
  return new UpstreamError(
    "registry_refused",
    `The registry ${registry} lets this login read nothing of ${repository}, or there is no such repository: give whoever runs this the role AcrPull, or name a public image.`,
    { service: "registry", retryable: false },
  );
}

function unanswered(registry: string, why: string, cause?: unknown): UpstreamError {
  return new UpstreamError("registry_failed", `The registry ${registry} could not be asked for an image: ${why}.`, {
    service: "registry",
    retryable: true,
    cause,
  });
}
