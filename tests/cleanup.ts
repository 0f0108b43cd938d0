import type { TestContext } from "node:test";

type Undo = () => PromiseLike<unknown>;

const stacks = new WeakMap<TestContext, Undo[]>();

/**
 * Has something undone after the test, what was done last first: a daemon ends before the folder goes in which it writes. `t.after` runs
 * its hooks in the order they are given, and none behind one that fails; here all are run, and the first failure is told.
 */
export function undoAfter(t: TestContext, undo: Undo): void {
  const known = stacks.get(t);
  if (known !== undefined) {
    known.push(undo);
    return;
  }
  const stack = [undo];
  stacks.set(t, stack);
  t.after(async () => {
    const failures: unknown[] = [];
    for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
      try {
        await next();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  });
}
