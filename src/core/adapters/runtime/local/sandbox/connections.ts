import { type Answer, call, parseJson } from "./post.ts";
import { field, type Settings, textField } from "./settings.ts";

const TIMEOUT_MS = 30_000;

/**
 * The answer to `integrations` and to `token <provider>`, got as the instructions for this chat say; undefined when the person says
 * anything else. A token is asked for and never shown.
 */
export async function askConnections(
  connections: Settings["connections"],
  prompt: string,
): Promise<string | undefined> {
  const question = /^(?:integrations|token ([a-z0-9-]+))$/.exec(prompt.trim().toLowerCase());
  if (question === null) return undefined;
  if (connections === undefined) return "The configuration says nothing of connected accounts.";
  const provider = question[1];
  const url = provider === undefined ? connections.url : `${connections.url}/${provider}/token`;
  const headers = { authorization: `Bearer ${connections.key}` };
  const answer = await call(url, { headers, timeoutMs: TIMEOUT_MS }).catch((): Answer => ({ status: 0, body: "" }));
  if (answer.status !== 200) return refusal(answer);
  if (provider === undefined) return listed(field(parseJson(answer.body), "integrations"));
  const token = parseJson(answer.body);
  if (textField(token, "access_token") === undefined) return "The gateway answered without a token.";
  const seconds = field(token, "expires_in");
  return `There is a token for ${provider}${typeof seconds === "number" ? `, for ${seconds} s` : ""}. It is not shown.`;
}

/** One line each: `gmail: active, ann@example.com`. */
function listed(connections: unknown): string {
  if (!Array.isArray(connections) || connections.length === 0) return "No account is connected.";
  const lines = connections.map((connection: unknown) => {
    const facts = ["state", "account", "action"].map((key) => textField(connection, key));
    return `${textField(connection, "provider")}: ${facts.filter((fact) => fact !== undefined).join(", ")}`;
  });
  return lines.join("\n");
}

function refusal({ status, body }: Answer): string {
  if (status === 0) return "The gateway could not be reached.";
  const message = textField(field(parseJson(body), "error"), "message");
  return message ?? `The gateway refused with status ${status}.`;
}
