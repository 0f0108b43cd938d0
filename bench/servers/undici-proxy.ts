/** `undici-proxy.ts <upstream>`: passes every request on through an undici pool, and looks at nothing. */
import { createServer } from "node:http";
import { Pool } from "undici";
import { serve } from "./serve.ts";

const pool = new Pool(process.argv[2] ?? "", { connections: 256 });
await serve(
  createServer((request, response) => {
    const headers = { "content-type": request.headers["content-type"] ?? "" };
    const options = { path: request.url ?? "/", method: "POST" as const, headers, body: request };
    pool
      .stream(options, ({ statusCode, headers: answered }) => response.writeHead(statusCode, answered))
      .catch(() => response.destroy());
  }),
);
