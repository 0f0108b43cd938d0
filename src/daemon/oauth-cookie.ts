import { hash } from "node:crypto";
import { STATE_LIFETIME_MS } from "../core/integrations/integrations.ts";

/** The cookie that binds a consent under way to one browser; one a consent, so that two at once don't disturb each other. */
export type FlowCookie = {
  read(header: string | undefined): string | undefined;
  set(nonce: string): string;
  clear(): string;
};

/** On https, `__Host-` keeps other hosts of the same domain from setting it; on plain http, which is for loopback, no browser would take that. */
export function flowCookie(publicUrl: string, state: string): FlowCookie {
  const isSecure = new URL(publicUrl).protocol === "https:";
  const name = `${isSecure ? "__Host-" : ""}openclaw-connect-${hash("sha256", state, "hex").slice(0, 16)}`;
  const attributes = `; Path=/; HttpOnly; SameSite=Lax${isSecure ? "; Secure" : ""}`;
  return {
    read(header = "") {
      const [found] = header
        .split(";")
        // Blanks alone: with what else `trim` takes away, another host's cookie could pass for a `__Host-` one.
        .map((pair) => pair.replace(/^[ \t]+/, ""))
        .filter((pair) => pair.startsWith(`${name}=`));
      return found?.slice(name.length + 1);
    },
    set: (nonce) => `${name}=${nonce}; Max-Age=${STATE_LIFETIME_MS / 1_000}${attributes}`,
    clear: () => `${name}=; Max-Age=0${attributes}`,
  };
}
