import type { IncomingHttpHeaders } from "node:http";
import type { Dispatcher } from "undici";

export type Exchange = { status: number; headers: IncomingHttpHeaders; body: Buffer };

/**
 * One request and its whole answer. `undici.request` makes a stream for the answer's body, which for the few bytes that
 * runtimes and the Bot API answer costs as much as the rest. Rejects when there is no whole answer, and when `signal` was
 * aborted before the request went out: what has been sent takes effect, so its answer is waited for.
 */
export function exchange(
  dispatcher: Dispatcher,
  options: Dispatcher.DispatchOptions,
  signal?: AbortSignal,
): Promise<Exchange> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let status = 0;
    let headers: IncomingHttpHeaders = {};
    dispatcher.dispatch(options, {
      onRequestStart(controller) {
        if (signal?.aborted === true) controller.abort(asError(signal.reason));
      },
      onResponseStart(_controller, statusCode, answered) {
        status = statusCode;
        headers = answered;
        // Of an informational answer, which another follows.
        chunks.length = 0;
      },
      onResponseData(_controller, chunk) {
        chunks.push(chunk);
      },
      onResponseEnd() {
        resolve({ status, headers, body: joined(chunks) });
      },
      onResponseError(_controller, error) {
        reject(error);
      },
    });
  });
}

/** Without a copy where there is nothing to join. */
export function joined(chunks: readonly Buffer[]): Buffer {
  return chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks);
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error("the request was given up", { cause: reason });
}
