import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { createServer, type Server, type Socket } from "node:net";
import { LOOPBACK_CERTIFICATE, LOOPBACK_KEY } from "../certificate.ts";
import { observe } from "./replicas.ts";
import type { App, World } from "./world.ts";

const TLS_HANDSHAKE = 0x16;
const UNAVAILABLE =
  "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: connection failure";

export type Ingress = Pick<World, "openIngress" | "closeIngress"> & { close(): Promise<void> };

/**
 * The listeners of apps: a port of its own for each, and one HTTPS server behind all of them, so that hundreds are cheap. Plain HTTP is
 * sent on to HTTPS unless the app allows it (F2).
 */
export function createIngress(world: () => World): Ingress {
  const doors = new Map<number, { server: Server; appKey: string; sockets: Set<Socket> }>();

  function appBehind(request: IncomingMessage): App | undefined {
    return world().apps.get(doors.get(request.socket.localPort ?? 0)?.appKey ?? "");
  }

  function listen(request: IncomingMessage, response: ServerResponse): void {
    forward(world(), appBehind(request), request, response).catch((error: unknown) => {
      if (response.headersSent) response.destroy();
      else answer(response, 503, `${UNAVAILABLE}: ${String(error)}`);
    });
  }
  const secure = createHttpsServer({ cert: LOOPBACK_CERTIFICATE, key: LOOPBACK_KEY }, listen);
  const plain = createHttpServer((request, response) => {
    if (appBehind(request)?.configuration.ingress?.allowInsecure === true) return listen(request, response);
    const location = `https://${request.headers.host}${request.url}`;
    response.writeHead(301, { location }).end();
  });

  function accept(socket: Socket): void {
    socket.on("error", () => socket.destroy());
    socket.once("readable", () => {
      const first = socket.read(1) as Buffer | null;
      if (first === null) return void socket.destroy();
      socket.unshift(first);
      (first[0] === TLS_HANDSHAKE ? secure : plain).emit("connection", socket);
    });
  }

  return {
    async openIngress(appKey) {
      const sockets = new Set<Socket>();
      const server = createServer((socket) => {
        sockets.add(socket);
        socket.once("close", () => sockets.delete(socket));
        accept(socket);
      });
      await new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        server.listen(0, "127.0.0.1", resolve);
      });
      const address = server.address();
      if (address === null || typeof address === "string") throw new Error("The ingress has no TCP address");
      doors.set(address.port, { server, appKey, sockets });
      return address.port;
    },
    closeIngress(port) {
      const door = doors.get(port);
      doors.delete(port);
      door?.server.close();
      for (const socket of door?.sockets ?? []) socket.destroy();
    },
    async close() {
      for (const port of doors.keys()) this.closeIngress(port);
    },
  };
}

/** What the environment's proxy does: to the latest revision that is ready, else to any that is. */
async function forward(
  world: World,
  app: App | undefined,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const active = [...(app?.revisions.values() ?? [])].filter((revision) => revision.active).toReversed();
  if (app?.configuration.ingress === undefined || active.length === 0)
    return answer(response, 404, "The container app you have requested is stopped or does not exist.");
  const healths = await observe(world, app);
  const ready = active.find(({ name }) => healths.get(name) === "healthy")?.container;
  if (ready === undefined) return answer(response, 503, UNAVAILABLE);
  await ready.serve(request, response);
}

function answer(response: ServerResponse, status: number, body: string): void {
  response.writeHead(status, { "content-type": "text/plain", "content-length": Buffer.byteLength(body) }).end(body);
}
