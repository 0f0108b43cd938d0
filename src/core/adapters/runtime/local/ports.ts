import { randomInt } from "node:crypto";
import { createServer } from "node:net";
import { ConflictError } from "../../../platform/errors.ts";

/** Below the range from which systems take the ports of outgoing connections: a sleeping runtime's port stays free. */
const FIRST = 20_000;
const END = 32_000;
const TRIES = 200;

/** A port on loopback that nothing listens on and that is not in `taken`. */
export async function freePort(taken: ReadonlySet<number>): Promise<number> {
  for (let attempt = 0; attempt < TRIES; attempt += 1) {
    const port = randomInt(FIRST, END);
    if (!taken.has(port) && (await isPortFree(port))) return port;
  }
  throw new ConflictError("ports_exhausted", `No free port between ${FIRST} and ${END} was found for a runtime.`);
}

export function isPortFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
