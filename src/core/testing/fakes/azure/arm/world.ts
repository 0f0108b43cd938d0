import type { IncomingHttpHeaders } from "node:http";
import type { Stamp } from "../../../../platform/config.ts";
import type { KeyVaultServer } from "../key-vault.ts";
import type { Container, ContainerHost } from "./container-host.ts";
import type { Configuration, EnvironmentStorageBody, JobBody, ShareBody, Template } from "./schema.ts";

/** How often something is asked for before it is as it will be. All 0 unless a test says otherwise. */
export type Settle = {
  /** Looks at an operation or its resource that find it under way. */
  operationPolls: number;
  /** The same for deletions. */
  deletePolls: number;
  /** Role assignments of a new principal that are refused with PrincipalNotFound. */
  principalReplication: number;
  /** Writes of apps refused because their identity can't read its secrets yet. */
  rolePropagation: number;
  /** Reads of a revision that still show the replica of a deactivated one. */
  zeroReplicaReads: number;
  /** Looks at a started container that find it starting. */
  healthReads: number;
};

export type Operation = {
  id: string;
  resourceId: string;
  location: string;
  kind: "containerapp" | "containerappsjob";
  status: "InProgress" | "Succeeded" | "Failed";
  startTime: string;
  pending: number;
  /** How it will end, if it will fail. */
  error: { code: string; message: string } | undefined;
  /** Whether what it waits for has come about. */
  isDone(): boolean;
  finish(succeeded: boolean): void;
  /** What its Location answers in the end; undefined: nothing. */
  result(): unknown;
};

export type ManagedIdentity = {
  id: string;
  name: string;
  location: string;
  tags: Record<string, string>;
  principalId: string;
  clientId: string;
  /** Role assignments of it that are still refused. */
  replication: number;
};

export type RoleAssignment = {
  id: string;
  name: string;
  scope: string;
  roleDefinitionId: string;
  principalId: string;
  principalType: string;
  createdOn: string;
  /** Uses of it that are still refused; 0: in force. */
  propagation: number;
};

export type Revision = {
  name: string;
  active: boolean;
  createdTime: string;
  template: Template;
  provisioningState: "Provisioning" | "Provisioned" | "Failed" | "Deprovisioned";
  /** Why its container doesn't start. */
  failure: string | undefined;
  container: Container | undefined;
  /** Containers that were told to end. */
  ending: Container[];
  /** Reads that still show the replica of a deactivated one. */
  draining: number;
};

export type App = {
  id: string;
  name: string;
  group: string;
  location: string;
  tags: Record<string, string>;
  identityType: string;
  /** Ids, as they were given. */
  identities: string[];
  managedBy: string | undefined;
  workloadProfileName: string | undefined;
  environmentId: string;
  configuration: Configuration;
  template: Template;
  /** Values of its secrets, as they were when it was last written. */
  secrets: Map<string, string>;
  provisioningState: "InProgress" | "Succeeded" | "Failed" | "Deleting";
  revisions: Map<string, Revision>;
  latestRevisionName: string;
  latestReadyRevisionName: string;
  operation: Operation | undefined;
  createdAt: string;
  port: number;
};

export type Execution = {
  name: string;
  startTime: string;
  endTime: string | undefined;
  status: "Running" | "Succeeded" | "Failed" | "Stopped";
  /** What it wrote, for people who look at a failed test. */
  output: string;
  template: unknown;
  stop(): void;
};

export type Job = {
  id: string;
  name: string;
  group: string;
  location: string;
  tags: Record<string, string>;
  body: JobBody;
  secrets: Map<string, string>;
  provisioningState: "InProgress" | "Succeeded" | "Failed" | "Deleting";
  executions: Map<string, Execution>;
  operation: Operation | undefined;
};

export type EnvironmentStorage = {
  id: string;
  name: string;
  properties: NonNullable<EnvironmentStorageBody["properties"]>;
};

export type Share = {
  id: string;
  name: string;
  account: string;
  properties: NonNullable<ShareBody["properties"]>;
  folder: string;
  createdAt: string;
  /** By the time they were taken at, which is their name. */
  snapshots: Map<string, { folder: string }>;
  /** Requests about it that still find it being deleted; undefined: it is not. */
  deleting: number | undefined;
};

/** All that exists on the loopback Azure. Records are kept under the lower-cased resource id. */
export type World = {
  url: string;
  stamps: readonly Stamp[];
  /** The principal that may do all; others, what a role assignment lets them. */
  owner: string;
  vaults: readonly KeyVaultServer[];
  pageSize: number;
  settle: Settle;
  violations: string[];
  identities: Map<string, ManagedIdentity>;
  roleAssignments: Map<string, RoleAssignment>;
  apps: Map<string, App>;
  jobs: Map<string, Job>;
  storages: Map<string, EnvironmentStorage>;
  shares: Map<string, Share>;
  operations: Map<string, Operation>;
  /** References that can be pulled; undefined: all. */
  images: Set<string> | undefined;
  locks: Set<string>;
  containers: ContainerHost;
  /** A port of 127.0.0.1 whose requests are those of the app with this key. */
  openIngress(appKey: string): Promise<number>;
  closeIngress(port: number): void;
  /** Where shares have their folders. */
  folder: string;
};

export type Call = {
  method: string;
  path: string;
  query: URLSearchParams;
  /** What the path's variables stand for. */
  params: Readonly<Record<string, string>>;
  headers: IncomingHttpHeaders;
  body: unknown;
  /** The long-running operation that it begins is to fail with this. */
  doom: { code: string; message: string } | undefined;
};

export type Answer = { status: number; body?: unknown; headers?: Record<string, string> };
