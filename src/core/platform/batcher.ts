/**
 * Turns many small calls into few large ones without a timer: one run at a time, and whatever arrives meanwhile makes up
 * the next. Alone, a call runs at once; under load, batches grow by themselves.
 */
export type Batcher<Item, Result> = {
  /** @throws what the run that held the item threw. */
  submit(item: Item): Promise<Result>;
  /** How many items wait for a run. */
  readonly waiting: number;
  /** Settles when nothing waits or runs any more. */
  idle(): Promise<void>;
};

type Waiting<Item, Result> = {
  item: Item;
  since: number;
  resolve: (result: Result) => void;
  reject: (error: unknown) => void;
};

export type BatcherOptions<Item, Result> = {
  maxItems: number;
  /** Gives one result for each item, in the order of the items. */
  run: (items: Item[]) => Promise<Result[]>;
  /** After how long, give or take a tenth, a submitter is told `error` instead; what became of the item stays open. */
  patience?: { ms: number; error: () => Error };
};

export function createBatcher<Item, Result>(options: BatcherOptions<Item, Result>): Batcher<Item, Result> {
  const { patience } = options;
  let queue: Waiting<Item, Result>[] = [];
  let running: Waiting<Item, Result>[] = [];
  let draining: Promise<void> | undefined;

  async function drain(): Promise<void> {
    // Lets everything that is already on its way in this turn of the event loop join the first batch.
    await Promise.resolve();
    // One for all: a timer for each item costs more than all else here.
    const watch = patience && setInterval(() => tellLate(patience), patience.ms / 10);
    while (queue.length > 0) {
      running = queue.slice(0, options.maxItems);
      queue = queue.slice(options.maxItems);
      await settle(running);
    }
    clearInterval(watch);
    draining = undefined;
  }

  function tellLate({ ms, error }: { ms: number; error: () => Error }): void {
    const since = performance.now() - ms;
    for (const waiting of running) if (waiting.since < since) waiting.reject(error());
    // In order of arrival: those behind the first that is in time are so, too.
    while (queue[0] !== undefined && queue[0].since < since) queue.shift()?.reject(error());
  }

  async function settle(batch: Waiting<Item, Result>[]): Promise<void> {
    try {
      const results = await options.run(batch.map((waiting) => waiting.item));
      if (results.length !== batch.length) throw new Error(`a batch of ${batch.length} gave ${results.length} results`);
      results.forEach((result, index) => batch[index]?.resolve(result));
    } catch (error) {
      // Everyone in the batch is told; the next batch starts afresh.
      for (const waiting of batch) waiting.reject(error);
    }
  }

  return {
    submit(item) {
      return new Promise((resolve, reject) => {
        queue.push({ item, since: performance.now(), resolve, reject });
        draining ??= drain();
      });
    },
    get waiting() {
      return queue.length;
    },
    async idle() {
      await draining;
    },
  };
}
