/** Items of many shares, served in turns: whoever brings a thousand waits behind themself, not in front of everybody else. */
export type FairQueue<Item> = {
  readonly size: number;
  push(share: string, item: Item): void;
  /** The next item of the share whose turn it is. */
  take(): Item | undefined;
  /** The newest item of the share that has most, and that share. */
  takeFromLongest(): Item | undefined;
  /** Takes out every item that `isWanted`, wherever it stands. */
  takeWhere(isWanted: (item: Item) => boolean): Item[];
};

export function createFairQueue<Item>(): FairQueue<Item> {
  // In the order of turns: a share that was served goes to the end.
  const shares = new Map<string, Item[]>();
  let size = 0;

  return {
    get size() {
      return size;
    },
    push(share, item) {
      const items = shares.get(share);
      if (items === undefined) shares.set(share, [item]);
      else items.push(item);
      size += 1;
    },
    take() {
      for (const [share, items] of shares) {
        const item = items.shift();
        shares.delete(share);
        if (items.length > 0) shares.set(share, items);
        size -= 1;
        return item;
      }
      return undefined;
    },
    takeFromLongest() {
      let longest: [string, Item[]] | undefined;
      for (const entry of shares) if (entry[1].length > (longest?.[1].length ?? 0)) longest = entry;
      if (longest === undefined) return undefined;
      const [share, items] = longest;
      if (items.length === 1) shares.delete(share);
      size -= 1;
      return items.pop();
    },
    takeWhere(isWanted) {
      const taken: Item[] = [];
      for (const [share, items] of shares) {
        if (!items.some(isWanted)) continue;
        const { wanted = [], others = [] } = Object.groupBy(items, (item) => (isWanted(item) ? "wanted" : "others"));
        taken.push(...wanted);
        if (others.length > 0) shares.set(share, others);
        else shares.delete(share);
      }
      size -= taken.length;
      return taken;
    },
  };
}
