import { createSign, generateKeyPairSync, type JsonWebKey, type KeyObject } from "node:crypto";
import type { Clock } from "../../../platform/clock.ts";
import type { Person } from "./grants.ts";

export type Claims = Record<string, unknown>;

const LIFE_SECONDS = 3_600;
const KEY_ID = "loopback";

/** Made once for the process: it takes a tenth of a second. */
let pair: { publicKey: KeyObject; privateKey: KeyObject } | undefined;

function keyPair() {
  pair ??= generateKeyPairSync("rsa", { modulusLength: 2048 });
  return pair;
}

export function publicKeys(): { keys: JsonWebKey[] } {
  return { keys: [{ ...keyPair().publicKey.export({ format: "jwk" }), kid: KEY_ID, alg: "RS256", use: "sig" }] };
}

export function claimsOf(
  person: Person,
  about: { issuer: string; clientId: string; nonce: string | null },
  clock: Clock,
): Claims {
  const issuedAt = Math.floor(clock.now().getTime() / 1_000);
  return {
    iss: about.issuer,
    sub: person.subject,
    aud: about.clientId,
    iat: issuedAt,
    exp: issuedAt + LIFE_SECONDS,
    email: person.email,
    email_verified: person.isEmailVerified,
    ...(about.nonce === null ? {} : { nonce: about.nonce }),
  };
}

export function signIdToken(claims: Claims): string {
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${encode({ alg: "RS256", typ: "JWT", kid: KEY_ID })}.${encode(claims)}`;
  return `${signed}.${createSign("RSA-SHA256").update(signed).sign(keyPair().privateKey, "base64url")}`;
}
