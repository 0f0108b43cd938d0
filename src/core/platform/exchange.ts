import type { IncomingHttpHeaders } from "node:http";
import type { Dispatcher } from "undici";

export type Exchange = { status: number; headers: IncomingHttpHeaders; body: Buffer };

/**
 * One request and its whole answer. `undici.request` makes a stream for the answer's body, which for the few bytes that
 * runtimes and the Bot API answer costs as much as the rest. Rejects when there is no whole answer, or `signal` aborts.
 */
export function exchange(
  dispatcher: Dispatcher,
  options: Dispatcher.DispatchOptions,
  signal?: AbortSignal,
): Promise<Exchange> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) return reject(asError(signal.reason));
    const chunks: Buffer[] = [];
    let status = 0;
    let headers: IncomingHttpHeaders = {};
    let abort: (() => void) | undefined;
    const stopListening = () => abort && signal?.removeEventListener("abort", abort);
    dispatcher.dispatch(options, {
      onRequestStart(controller) {
        if (signal === undefined) return;
        abort = () => controller.abort(asError(signal.reason));
        if (signal.aborted) abort();
        else signal.addEventListener("abort", abort);
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
        stopListening();
        resolve({ status, headers, body: Buffer.concat(chunks) });
      },
      onResponseError(_controller, error) {
        stopListening();
        reject(error);
      },
    });
  });
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error("the request was given up", { cause: reason });
}
