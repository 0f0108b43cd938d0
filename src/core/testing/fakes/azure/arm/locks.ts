import { Refusal } from "./refusal.ts";
import { keyOf } from "./resource-id.ts";
import type { World } from "./world.ts";

/** @throws Refusal when somebody's lock keeps the resource, or what it belongs to, from being deleted. */
export function refuseLocked(world: World, id: string): void {
  const lock = [...world.locks].find((one) => keyOf(id) === one || keyOf(id).startsWith(`${one}/`));
  if (lock === undefined) return;
  throw new Refusal(
    409,
    "ScopeLocked",
    `The scope '${id}' cannot perform delete operation because following scope(s) are locked: '${lock}'. Please remove the lock and try again.`,
  );
}
