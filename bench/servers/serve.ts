import { once } from "node:events";
import type { Server } from "node:http";

/** Listens on a free port and tells the parent process where; ends with it. */
export async function serve(server: Server): Promise<void> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the server has no port");
  process.send?.({ url: `http://127.0.0.1:${address.port}` });
  process.once("disconnect", () => process.exit());
}
