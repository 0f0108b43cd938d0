import type { Form } from "./form.ts";
import { Refusal } from "./refusal.ts";

export type Reply = { status: number; body: unknown; headers: Record<string, string> };

type Known = { fingerprint: string; reply: Reply | undefined };

/** Remembers what was answered to each `Idempotency-Key`. */
export function createIdempotency() {
  const known = new Map<string, Known>();
  return {
    /**
     * Answers once: again for the same key and the same request. What was refused before it began is not remembered.
     * @throws Refusal for another request with the same key, and while the first one is under way.
     */
    async once(key: string | undefined, path: string, form: Form, answer: () => Promise<Reply>): Promise<Reply> {
      if (key === undefined) return answer();
      const fingerprint = JSON.stringify([path, form]);
      const earlier = known.get(key);
      if (earlier !== undefined) return repeat(key, earlier, fingerprint);
      const entry: Known = { fingerprint, reply: undefined };
      known.set(key, entry);
      try {
        const reply = await answer();
        if (reply.status < 400 || reply.status >= 500) entry.reply = reply;
        else known.delete(key);
        return reply;
      } catch (error) {
        known.delete(key);
        throw error;
      }
    },
  };
}

function repeat(key: string, { fingerprint, reply }: Known, asked: string): Reply {
  if (fingerprint !== asked) {
    throw new Refusal(400, {
      type: "idempotency_error",
      message: `Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than '${key}' if you meant to execute a different request.`,
    });
  }
  if (reply === undefined) {
    throw new Refusal(409, {
      type: "invalid_request_error",
      code: "idempotency_key_in_use",
      message:
        "There is currently another in-progress request using this Idempotent Key (that probably means you submitted twice, and the other request is still going through)",
    });
  }
  return { ...reply, headers: { ...reply.headers, "idempotent-replayed": "true" } };
}
