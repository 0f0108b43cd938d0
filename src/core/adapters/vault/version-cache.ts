type Entry = { value: Promise<string | undefined>; validUntil: number };

/**
 * Values by name and version, which never change, so that they need not be asked for again: the `entries` latest, for `lifetimeMs`.
 * Who asks for one that is on its way gets that answer. What is absent, or could not be read, is asked for again.
 */
export function createVersionCache({
  entries,
  lifetimeMs,
  now = () => performance.now(),
}: {
  entries: number;
  lifetimeMs: number;
  now?: () => number;
}) {
  const known = new Map<string, Entry>();

  function drop(key: string, entry: Entry): void {
    // Another may stand there since.
    if (known.get(key) === entry) known.delete(key);
  }

  return {
    async read(name: string, version: string, load: () => Promise<string | undefined>): Promise<string | undefined> {
      const key = `${name}/${version}`;
      const there = known.get(key);
      if (there !== undefined && there.validUntil > now()) return there.value;
      const entry = { value: load(), validUntil: now() + lifetimeMs };
      known.delete(key);
      known.set(key, entry);
      const [oldest] = known.keys();
      if (known.size > entries && oldest !== undefined) known.delete(oldest);
      try {
        const value = await entry.value;
        if (value === undefined) drop(key, entry);
        return value;
      } catch (error) {
        drop(key, entry);
        throw error;
      }
    },
    /** Also of those that are on their way: whoever asks from now on asks the vault. */
    forget(name: string): void {
      for (const key of known.keys()) if (key.startsWith(`${name}/`)) known.delete(key);
    },
  };
}
