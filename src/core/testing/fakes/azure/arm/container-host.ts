import type { IncomingMessage, ServerResponse } from "node:http";

export type ContainerHealth = "healthy" | "unhealthy" | "starting";

/** What a container finds at `path`. */
export type Mount = { path: string } & (
  | { folder: string }
  | { files: Readonly<Record<string, string>> }
  /** An empty folder of its own. */
  | { empty: true }
);

/** All that a container is started from. */
export type ContainerSpec = {
  app: string;
  tags: Readonly<Record<string, string>>;
  revision: string;
  image: string;
  /** Secrets resolved. */
  env: Readonly<Record<string, string>>;
  mounts: readonly Mount[];
  targetPort: number;
};

export type Container = {
  health(): Promise<ContainerHealth>;
  /** A request that the ingress forwards. */
  serve(request: IncomingMessage, response: ServerResponse): Promise<void>;
  /** Begins to end it. */
  stop(): void;
  isRunning(): boolean;
};

export type ContainerHost = {
  start(spec: ContainerSpec): Container;
  /** Ends whatever still runs. */
  close(): Promise<void>;
};
