const PATIENCE_MS = 2_000;

/**
 * What `read` gives, read again once it is `ms` old, one reading at a time: scrapes must not become load. Undefined when it
 * fails or takes too long; the rest of a scrape tells most when the database is away.
 */
export function remember<Value>(ms: number, read: () => Promise<Value>): () => Promise<Value | undefined> {
  let latest: Promise<Value | undefined> | undefined;
  return () => {
    if (latest === undefined) {
      latest = read().catch(() => undefined);
      const forget = () => setTimeout(() => (latest = undefined), ms).unref();
      void latest.then(forget);
    }
    return Promise.race([latest, late()]);
  };
}

function late(): Promise<undefined> {
  return new Promise((resolve) => setTimeout(() => resolve(undefined), PATIENCE_MS).unref());
}
