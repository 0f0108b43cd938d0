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

type Waiting<Item, Result> = { item: Item; resolve: (result: Result) => void; reject: (error: unknown) => void };

/** `run` gives one result for each item, in the order of the items. */
export function createBatcher<Item, Result>(options: {
  maxItems: number;
  run: (items: Item[]) => Promise<Result[]>;
}): Batcher<Item, Result> {
  let queue: Waiting<Item, Result>[] = [];
  let draining: Promise<void> | undefined;

  async function drain(): Promise<void> {
    // Lets everything that is already on its way in this turn of the event loop join the first batch.
    await Promise.resolve();
    while (queue.length > 0) {
      const batch = queue.slice(0, options.maxItems);
      queue = queue.slice(options.maxItems);
      await settle(batch);
    }
    draining = undefined;
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
        queue.push({ item, resolve, reject });
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
