import type { IncomingMessage } from "node:http";

/** How a call goes wrong. */
export type ArmFault =
  | {
      status: number;
      code: string;
      message?: string;
      /** Seconds; undefined: no such header. */
      retryAfter?: number;
      /** Without the `error` envelope around code and message. */
      envelope?: false;
    }
  /** The connection breaks before anything is done. */
  | "reset"
  /** It is done, and then the connection breaks. */
  | "lost"
  /** Nothing is done and nothing is ever answered. */
  | "hang"
  /** It is done and never answered. */
  | "mute"
  /** It is accepted, and the long-running operation fails. */
  | "operation-failed";

/** What is known of a call before it is answered. */
export type IncomingCall = { method: string; path: string; body: unknown; principalId: string };

type Planned = { accepts(call: IncomingCall): boolean; fault: ArmFault; left: number };

export type Faults = {
  failNext(route: string | ((call: IncomingCall) => boolean), fault: ArmFault, times?: number): void;
  failNth(n: number, fault: ArmFault): void;
  /** The fault that meets this call. */
  take(call: IncomingCall): ArmFault | undefined;
  clear(): void;
};

export function createFaults(): Faults {
  let planned: Planned[] = [];
  let numbered: { left: number; fault: ArmFault }[] = [];
  return {
    failNext(route, fault, times = 1) {
      const wanted = typeof route === "string" ? route.toLowerCase() : route;
      const accepts =
        typeof wanted === "string"
          ? ({ method, path }: IncomingCall) => `${method} ${path}`.toLowerCase().startsWith(wanted)
          : wanted;
      planned.push({ accepts, fault, left: times });
    },
    failNth(n, fault) {
      numbered.push({ left: n, fault });
    },
    take(call) {
      for (const one of numbered) one.left -= 1;
      const due = numbered.find(({ left }) => left === 0);
      numbered = numbered.filter(({ left }) => left > 0);
      if (due !== undefined) return due.fault;
      const found = planned.find(({ accepts }) => accepts(call));
      if (found !== undefined) found.left -= 1;
      planned = planned.filter(({ left }) => left > 0);
      return found?.fault;
    },
    clear() {
      planned = [];
      numbered = [];
    },
  };
}

export function drop(request: IncomingMessage): void {
  request.socket.destroy();
}
