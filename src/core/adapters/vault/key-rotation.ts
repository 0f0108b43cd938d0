/** What became of it when the key of a vault was changed. */
export type KeyRotation = {
  /** Where the key is: in the vault's folder, or in OPENCLAW_VAULT_KEY. */
  source: "folder" | "environment";
  /** A rotation that was begun before goes on. */
  isResumed: boolean;
  secrets: number;
  versions: number;
  /** Versions that were sealed again; in a dry run: that are not sealed with the newest key. */
  resealed: number;
  /** Names of secrets that no key opens. While there are any, the old keys are kept. */
  unreadable: string[];
  /** Keys that open what was sealed before, and are there still. */
  oldKeys: number;
};

export type RotationOptions = {
  dryRun: boolean;
  signal: AbortSignal;
  report: (progress: { done: number; of: number }) => void;
};

export type RotateKey = (options: RotationOptions) => Promise<KeyRotation>;
