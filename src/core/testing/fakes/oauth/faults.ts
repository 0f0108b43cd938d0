import type { ServerResponse } from "node:http";

/** A reply as it goes over the wire. */
export type WireReply = { status: number; headers?: Record<string, string>; body?: string };

/** How a request goes wrong. */
export type OAuthFault =
  /** Nothing is done. */
  | WireReply
  /** The connection breaks before anything is done. */
  | "reset"
  /** It is done, and then the connection breaks: a refresh token is spent, and nobody knows its successor. */
  | "lost"
  /** It is done, and half of the reply arrives. */
  | "cut"
  /** Nothing is done and nothing is ever answered. */
  | "hang"
  /** It is done and never answered. */
  | "mute";

export type Endpoint = "token" | "revoke" | "authorize" | "me";

export type Hold = {
  /** Resolves when a request waits. */
  reached: Promise<void>;
  release(): void;
};

type Planned = { endpoint: Endpoint; fault: OAuthFault; left: number };
type Gate = { endpoint: Endpoint; when: "before" | "after"; reach: () => void; released: Promise<void> };

export function createFaults() {
  let planned: Planned[] = [];
  const gates: Gate[] = [];
  return {
    failNext(endpoint: Endpoint, fault: OAuthFault, times: number): void {
      planned.push({ endpoint, fault, left: times });
    },
    /** The next request to it waits, before it is worked on or before it is answered, until it is released. */
    hold(endpoint: Endpoint, when: "before" | "after"): Hold {
      const reached = Promise.withResolvers<void>();
      const released = Promise.withResolvers<void>();
      gates.push({ endpoint, when, reach: reached.resolve, released: released.promise });
      return { reached: reached.promise, release: released.resolve };
    },
    /** The fault that meets this request. */
    take(endpoint: Endpoint): OAuthFault | undefined {
      const found = planned.find((one) => one.endpoint === endpoint);
      if (found !== undefined) found.left -= 1;
      planned = planned.filter(({ left }) => left > 0);
      return found?.fault;
    },
    async pass(endpoint: Endpoint, when: "before" | "after"): Promise<void> {
      const index = gates.findIndex((gate) => gate.endpoint === endpoint && gate.when === when);
      const [gate] = index < 0 ? [] : gates.splice(index, 1);
      gate?.reach();
      await gate?.released;
    },
    clear(): void {
      planned = [];
    },
  };
}

export function send(response: ServerResponse, { status, headers, body }: WireReply): void {
  response.writeHead(status, headers).end(body);
}

export function json(status: number, body: unknown, headers: Record<string, string> = {}): WireReply {
  const fixed = { "content-type": "application/json; charset=utf-8", "cache-control": "no-store" };
  return { status, headers: { ...fixed, ...headers }, body: JSON.stringify(body) };
}

/** Answers as the fault says. */
export function fail(response: ServerResponse, fault: OAuthFault, reply: WireReply | undefined): void {
  if (typeof fault === "object") return send(response, fault);
  if (fault === "hang" || fault === "mute") return;
  if (fault === "cut" && reply?.body !== undefined) {
    response.writeHead(reply.status, { ...reply.headers, "content-length": String(reply.body.length) });
    response.write(reply.body.slice(0, reply.body.length / 2), () => response.destroy());
    return;
  }
  response.destroy();
}
