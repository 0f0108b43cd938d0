import { readFile } from "node:fs/promises";
import { PASSPHRASE, type Secrets } from "../../core/platform/config.ts";
import { ConfigError, errorMessage, UsageError } from "../../core/platform/errors.ts";

/** What a backup is encrypted with: what the file holds, else what is configured; undefined: neither. */
export async function findPassphrase(file: string | undefined, secrets: Secrets): Promise<string | undefined> {
  if (file === undefined) return secrets.backupPassphrase;
  const text = await readPassphrase(file);
  if (PASSPHRASE.test(text)) return text;
  throw new UsageError(
    "passphrase_unfit",
    `${file} must hold one line of 12 characters or more, e.g. what this prints: openssl rand -base64 32`,
  );
}

async function readPassphrase(file: string): Promise<string> {
  try {
    return (await readFile(file, "utf8")).trim();
  } catch (error) {
    throw new UsageError("passphrase_unreadable", `--passphrase-file: ${errorMessage(error)}`, { cause: error });
  }
}

/** Whoever wants a backup that anybody can read has to say so. @throws ConfigError when there is nothing to encrypt it with. */
export async function choosePassphrase(
  { unencrypted = false, passphraseFile }: { unencrypted?: boolean; passphraseFile?: string },
  secrets: Secrets,
): Promise<string | undefined> {
  if (unencrypted && passphraseFile !== undefined)
    throw new UsageError("passphrase_unused", "--passphrase-file and --unencrypted exclude each other.");
  if (unencrypted) return undefined;
  const passphrase = await findPassphrase(passphraseFile, secrets);
  if (passphrase !== undefined) return passphrase;
  throw new ConfigError("passphrase_missing", [
    "A backup holds a person's conversations, and there is nothing to encrypt it with. Set OPENCLAW_BACKUP_PASSPHRASE, e.g. to what this prints: openssl rand -base64 32; or name a file that holds it with --passphrase-file; or add --unencrypted",
  ]);
}
