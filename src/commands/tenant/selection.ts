import { type Command, Option } from "commander";
import type { Db } from "../../core/platform/db.ts";
import { UsageError } from "../../core/platform/errors.ts";
import { getTenant, listTenants, type Tenant, TENANT_STATUSES, type TenantStatus } from "../../core/tenants/tenants.ts";

/** Which tenants, other than by name. */
export type TenantSelectors = { all?: true; status?: TenantStatus[]; tier?: "basic" | "plus"; tag?: string };

/** Adds the options by which many tenants are chosen at once. */
export function withTenantSelectors(command: Command): Command {
  return command
    .option("--all", "all of them")
    .addOption(new Option("--status <status...>", "all that are one of these").choices(TENANT_STATUSES))
    .addOption(new Option("--tier <tier>", "all of this tier").choices(["basic", "plus"]))
    .option("--tag <tag>", "all with this tag");
}

/**
 * The tenants that are named, or all that match, each once.
 * @throws NotFoundError for a name that nobody has, UsageError unless it is said in exactly one way: never everybody by leaving all out.
 */
export async function selectTenants(
  db: Db,
  references: readonly string[],
  { all, ...filter }: TenantSelectors,
): Promise<Tenant[]> {
  const ways = [references.length > 0, all === true, Object.keys(filter).length > 0];
  if (ways.filter(Boolean).length !== 1) {
    throw new UsageError("selection_unclear", "Give either tenants, or some of --status, --tier and --tag, or --all.");
  }
  if (references.length === 0) return listTenants(db, filter);
  const named = new Map<string, Tenant>();
  for (const reference of references) {
    const tenant = await getTenant(db, reference);
    named.set(tenant.id, tenant);
  }
  return [...named.values()];
}

/** The same, for what changes nothing: without a word about it, all. */
export async function selectTenantsOrAll(
  db: Db,
  references: readonly string[],
  selectors: TenantSelectors,
): Promise<Tenant[]> {
  const isSaid = references.length > 0 || Object.keys(selectors).length > 0;
  return selectTenants(db, references, isSaid ? selectors : { all: true });
}
