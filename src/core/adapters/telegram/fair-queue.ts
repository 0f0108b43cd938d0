/** Items of many shares, served in turns: whoever brings a thousand waits behind themself, not in front of everybody else. */
export type FairQueue<Item> = {
  readonly size: number;
  push(share: string, item: Item): void;
  /** The next item of the share whose turn it is. */
  take(): Item | undefined;
  /** The newest item of the share that has most, and that share. */
  takeFromLongest(): Item | undefined;
  remove(share: string, item: Item): void;
  takeAll(): Item[];
};

export function createFairQueue<Item>(): FairQueue<Item> {
  // In the order of turns: a share that was served goes to the end.
  const shares = new Map<string, Item[]>();
  let size = 0;

  function shrink(share: string, items: Item[]): void {
    size -= 1;
    if (items.length === 0) shares.delete(share);
  }

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
      const item = longest[1].pop();
      shrink(...longest);
      return item;
    },
    remove(share, item) {
      const items = shares.get(share) ?? [];
      const position = items.indexOf(item);
      if (position === -1) return;
      items.splice(position, 1);
      shrink(share, items);
    },
    takeAll() {
      const all = [...shares.values()].flat();
      shares.clear();
      size = 0;
      return all;
    },
  };
}
