/** Resolves after `ms`, or as soon as `signal` aborts. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const finish = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", finish);
      resolve();
    };
    const timer = setTimeout(finish, ms);
    signal.addEventListener("abort", finish);
  });
}

/** Runs `work` again and again, `ms` after it ended, until the signal; the first time after `ms`. */
export async function repeat(ms: number, signal: AbortSignal, work: () => Promise<unknown>): Promise<void> {
  for (;;) {
    await pause(ms, signal);
    if (signal.aborted) return;
    await work();
  }
}

/** Waits for `work`, but no longer than `ms`. @returns whether it ended in time; it goes on in any case. */
export async function endsWithin(ms: number, work: Promise<unknown>): Promise<boolean> {
  const late = new AbortController();
  const ended = async () => {
    await work;
    return true;
  };
  const isInTime = await Promise.race([ended(), pause(ms, late.signal)]);
  late.abort();
  return isInTime === true;
}
