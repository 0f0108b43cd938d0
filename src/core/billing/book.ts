import { isDeepStrictEqual } from "node:util";
import type { StripeNews } from "../adapters/stripe/stripe-event.ts";
import type { Db } from "../platform/db.ts";
import { parseTenantId, type TenantId } from "../platform/ids.ts";
import { lockTenants, type Tenant } from "../tenants/tenants.ts";
import { toBilling } from "./account.ts";
import type { Charge, Payment } from "./block.ts";
import { findOwners, readRecords, saveAccounts, saveCharges, savePayments, saveSubscriptions } from "./book-store.ts";
import type { Billing } from "./entitlement.ts";
import type { Subscription } from "./subscription.ts";

/** What is known of one tenant's payments. It is never changed: another takes its place in the book. */
export type Page = {
  tenant: Tenant;
  /** Undefined for a tenant that never came near Stripe. */
  account: { stripeCustomerId: string | null; blockedChargeId: string | null } | undefined;
  subscriptions: ReadonlyMap<string, Subscription>;
  charges: ReadonlyMap<string, Charge>;
  payments: ReadonlyMap<string, Payment>;
};

/**
 * All that a batch of news may touch: a page for each tenant, their rows locked, and whose is what. Read at once and
 * written at once: a round trip for each of them costs more than everything else.
 */
export type Book = {
  pages: Map<TenantId, Page>;
  /** By id of a subscription, charge, payment intent or invoice. */
  owners: Map<string, TenantId>;
  /** By id of a Stripe customer; one person may pay for two tenants. */
  customers: Map<string, Set<TenantId>>;
};

/** Locks every tenant that the news may be about, in the order of their ids, until the transaction of `db` ends. */
export async function openBook(db: Db, news: readonly StripeNews[]): Promise<Book> {
  const objectIds = [...new Set(news.flatMap(objectIdsOf))];
  const customerIds = [...new Set(news.flatMap(({ customerId }) => customerId ?? []))];
  const named = news.flatMap((one) => one.tenantReferences.flatMap((text) => parseTenantId(text) ?? []));
  const related = await findOwners(db, objectIds, customerIds);
  const tenants = await lockTenants(db, [...new Set([...named, ...related])]);
  const book: Book = { pages: new Map(), owners: new Map(), customers: new Map() };
  for (const page of await readPages(db, tenants)) putPage(book, page);
  return book;
}

async function readPages(db: Db, tenants: readonly Tenant[]): Promise<Page[]> {
  const records = await readRecords(
    db,
    tenants.map(({ id }) => id),
  );
  const accounts = new Map(records.accounts.map((row) => [row.tenantId, row]));
  const subscriptions = byTenant(records.subscriptions, ({ id }) => id);
  const charges = byTenant(records.charges, ({ id }) => id);
  const payments = byTenant(records.payments, ({ invoiceId }) => invoiceId);
  return tenants.map((tenant) => ({
    tenant,
    account: accounts.get(tenant.id),
    subscriptions: subscriptions.get(tenant.id) ?? new Map(),
    charges: charges.get(tenant.id) ?? new Map(),
    payments: payments.get(tenant.id) ?? new Map(),
  }));
}

function byTenant<Row extends { tenantId: TenantId }>(rows: readonly Row[], keyOf: (row: Row) => string) {
  const groups = Map.groupBy(rows, ({ tenantId }) => tenantId);
  return new Map([...groups].map(([id, own]) => [id, new Map(own.map((row) => [keyOf(row), row]))]));
}

function objectIdsOf(news: StripeNews): string[] {
  switch (news.kind) {
    case "charge": {
      const { chargeId, invoiceId, paymentIntentId } = news.charge;
      return [chargeId, invoiceId, paymentIntentId].filter((id) => id !== undefined);
    }
    case "dispute":
      return [news.dispute.chargeId, news.dispute.paymentIntentId].filter((id) => id !== undefined);
    case "customer-deleted":
      return [];
    default:
      return news.subscriptionId === undefined ? [] : [news.subscriptionId];
  }
}

/** Whose page `news` about a charge belongs to, by any of its ids. */
export function findOwner(book: Book, news: StripeNews): TenantId | undefined {
  return objectIdsOf(news)
    .map((id) => book.owners.get(id))
    .find((owner) => owner !== undefined);
}

/** Puts a tenant's page in the place of the one before, and has its ids found. */
export function putPage(book: Book, page: Page): void {
  const { id } = page.tenant;
  book.pages.set(id, page);
  noteCustomer(book, page.account?.stripeCustomerId ?? null, id);
  for (const subscription of page.subscriptions.values()) {
    book.owners.set(subscription.id, id);
    noteCustomer(book, subscription.customerId, id);
  }
  const paid = [...page.payments.values()].map((row) => [row.invoiceId, row.chargeId, row.paymentIntentId]);
  const charged = [...page.charges.values()].map((row) => [row.id, row.invoiceId, row.paymentIntentId]);
  for (const key of [...paid, ...charged].flat()) if (key !== null) book.owners.set(key, id);
}

function noteCustomer(book: Book, customerId: string | null, tenantId: TenantId): void {
  if (customerId === null) return;
  const tenants = book.customers.get(customerId);
  if (tenants === undefined) book.customers.set(customerId, new Set([tenantId]));
  else tenants.add(tenantId);
}

/** What entitlement is judged by. */
export function billingOf({ account, subscriptions }: Page): Billing | undefined {
  return account === undefined ? undefined : toBilling(account, [...subscriptions.values()]);
}

/** Writes what differs from the pages `before`, and nothing else: news that is repeated changes nothing. */
export async function saveBook(db: Db, before: ReadonlyMap<TenantId, Page>, book: Book, updatedAt: Date) {
  const changed = [...book.pages.values()].filter((page) => before.get(page.tenant.id) !== page);
  const accounts = changed.flatMap(({ tenant, account }) => {
    const known = before.get(tenant.id)?.account;
    const isSame =
      known?.stripeCustomerId === account?.stripeCustomerId && known?.blockedChargeId === account?.blockedChargeId;
    return account === undefined || (known !== undefined && isSame)
      ? []
      : [{ ...account, tenantId: tenant.id, updatedAt }];
  });
  const changedRows = <Row>(rowsOf: (page: Page) => ReadonlyMap<string, Row>) =>
    changed.flatMap((page) => {
      const known = before.get(page.tenant.id);
      const earlier = known === undefined ? new Map<string, Row>() : rowsOf(known);
      return [...rowsOf(page)]
        .filter(([key, row]) => earlier.get(key) !== row && !isDeepStrictEqual(earlier.get(key), row))
        .map(([, row]) => ({ ...row, tenantId: page.tenant.id }));
    });
  await saveAccounts(db, accounts);
  const subscriptions = changedRows((page) => page.subscriptions);
  await saveSubscriptions(
    db,
    subscriptions.map((row) => ({ ...row, updatedAt })),
  );
  await saveCharges(
    db,
    changedRows((page) => page.charges),
  );
  await savePayments(
    db,
    changedRows((page) => page.payments),
  );
}
