/** Branded identifiers: a string of one kind can't be passed where another is meant. */
declare const brand: unique symbol;
export type Branded<Base, Name extends string> = Base & { readonly [brand]: Name };

export type TenantId = Branded<string, "TenantId">;
export type StampId = Branded<string, "StampId">;
export type DaemonId = Branded<string, "DaemonId">;
export type ReleaseId = Branded<number, "ReleaseId">;
export type RolloutId = Branded<number, "RolloutId">;
/** An OAuth provider, such as `gmail`. */
export type ProviderId = Branded<string, "ProviderId">;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** The tenant id in `text`, lower-cased, or undefined when it isn't a UUID. */
export function parseTenantId(text: string): TenantId | undefined {
  return UUID.test(text) ? (text.toLowerCase() as TenantId) : undefined;
}
