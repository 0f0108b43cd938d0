import { setTimeout as delay } from "node:timers/promises";
import { call, parseJson, type Answer } from "./post.ts";
import { field, textField, type Settings } from "./settings.ts";

const TIMEOUT_MS = 120_000;
const MAX_TOKENS = 1_024;
const RETRY_PAUSES_MS = [250, 1_000];

/** The model's answer to `prompt`, or one sentence saying why there is none. Transient failures are tried again a few times. */
export async function askModel(model: Settings["model"], prompt: string): Promise<string> {
  if (model === undefined) return `No model is configured. You wrote: ${prompt}`;
  for (const pauseMs of [...RETRY_PAUSES_MS, undefined]) {
    const answer = await askOnce(model, prompt).catch((): Answer => ({ status: 0, body: "" }));
    if (answer.status === 200) return readStream(answer.body) || "The model answered with nothing.";
    const transient = answer.status === 0 || answer.status >= 500;
    if (!transient || pauseMs === undefined) return refusal(answer);
    await delay(pauseMs);
  }
  return "The model could not be reached.";
}

function askOnce(model: NonNullable<Settings["model"]>, prompt: string): Promise<Answer> {
  const body = { model: model.id, stream: true, max_tokens: MAX_TOKENS, messages: [{ role: "user", content: prompt }] };
  switch (model.api) {
    case "openai-completions":
      return call(`${model.baseUrl}/chat/completions`, {
        body,
        headers: { authorization: `Bearer ${model.apiKey}` },
        timeoutMs: TIMEOUT_MS,
      });
    case "anthropic-messages":
      return call(`${model.baseUrl}/v1/messages`, {
        body,
        headers: { "x-api-key": model.apiKey, "anthropic-version": "2023-06-01" },
        timeoutMs: TIMEOUT_MS,
      });
  }
}

/** The text pieces of either API's stream of server-sent events, joined. */
export function readStream(body: string): string {
  const pieces = body
    .split("\n")
    .filter((line) => line.startsWith("data:") && line.slice(5).trim() !== "[DONE]")
    .map((line) => parseJson(line.slice(5)))
    .map((event) => field(event, "choices", "0", "delta", "content") ?? field(event, "delta", "text"));
  return pieces.filter((piece) => typeof piece === "string").join("");
}

function refusal({ status, body }: Answer): string {
  if (status === 0) return "The model could not be reached.";
  const message = textField(field(parseJson(body), "error"), "message");
  return message === undefined ? `The model refused with status ${status}.` : `The model refused: ${message}`;
}
