export type Bytes = AsyncIterable<Uint8Array>;

/** `source` cut into blocks of `size` bytes. There is always a last one, which holds what is left and may be shorter, or empty. */
export async function* blocksOf(
  source: Bytes,
  size: number,
): AsyncGenerator<{ block: Buffer; isLast: boolean }, void, undefined> {
  let waiting: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of source) {
    waiting.push(chunk);
    length += chunk.byteLength;
    if (length <= size) continue;
    const all = Buffer.concat(waiting);
    let start = 0;
    for (; all.length - start > size; start += size) yield { block: all.subarray(start, start + size), isLast: false };
    waiting = [all.subarray(start)];
    length = all.length - start;
  }
  yield { block: Buffer.concat(waiting), isLast: true };
}

/** The first `size` bytes of `source`, fewer only if it has no more, and what follows them. */
export async function splitAt(source: Bytes, size: number): Promise<{ start: Buffer; rest: Bytes }> {
  const chunks = source[Symbol.asyncIterator]();
  let read = Buffer.alloc(0);
  while (read.length < size) {
    const next = await chunks.next();
    if (next.done === true) break;
    read = Buffer.concat([read, next.value]);
  }
  const others = { [Symbol.asyncIterator]: () => chunks };
  return { start: read.subarray(0, size), rest: joined(read.subarray(size), others) };
}

export async function* joined(start: Uint8Array, rest: Bytes): AsyncGenerator<Uint8Array, void, undefined> {
  if (start.byteLength > 0) yield start;
  yield* rest;
}
