import type { ChargeFacts, DisputeFacts } from "../adapters/stripe/stripe-charge.ts";
import type { InvoicePayment } from "../adapters/stripe/stripe-event.ts";

/** A paid invoice. Which charge paid it is told by older API versions only. */
export type Payment = {
  invoiceId: string;
  subscriptionId: string;
  chargeId: string | null;
  paymentIntentId: string | null;
  amountCents: number | null;
  currency: string | null;
  startsPeriod: boolean;
  paidAt: Date;
};

/** What is known of one charge; amounts are cumulative (F62). */
export type Charge = {
  id: string;
  invoiceId: string | null;
  paymentIntentId: string | null;
  amountCents: number | null;
  amountRefundedCents: number;
  chargedAt: Date | null;
  refundedAt: Date | null;
  disputeStatus: string | null;
  disputeLostAt: Date | null;
  unblockedAt: Date | null;
};

/** A charge's time and the time its invoice counts as paid differ by seconds, either way. */
const PAID_BEFORE_MS = 60_000;

/** How final what is known of a dispute is; an inquiry may become a dispute, and either one ends once. */
const DISPUTE_FINALITY: Readonly<Record<string, number>> = { warning_closed: 3, won: 4, lost: 5 };

/**
 * The charge for which nothing may run, or null. A function of what is known, whatever came first: a full refund counts
 * while its charge pays for the current period, a lost dispute always, until another charge has paid since or an
 * operator has lifted it. Of several, the latest one.
 */
export function findBlock(charges: Iterable<Charge>, payments: readonly Payment[]): string | null {
  const inForce = [...charges].flatMap((charge) => {
    const since = charge.unblockedAt === null ? blockedSince(charge, payments) : undefined;
    return since === undefined ? [] : [{ id: charge.id, since: since.getTime() }];
  });
  return inForce.toSorted((a, b) => b.since - a.since || (a.id < b.id ? -1 : 1))[0]?.id ?? null;
}

function blockedSince(charge: Charge, payments: readonly Payment[]): Date | undefined {
  const own = findOwnPayment(charge, payments);
  const others = payments.filter((payment) => payment !== own);
  const { disputeLostAt, refundedAt, chargedAt } = charge;
  if (disputeLostAt !== null && !others.some(({ paidAt }) => paidAt > disputeLostAt)) return disputeLostAt;
  if (refundedAt === null) return undefined;
  // Paid none of the invoices that are known: it was for something else.
  if (own === undefined && payments.length > 0) return undefined;
  const periodFrom = own?.paidAt ?? chargedAt ?? refundedAt;
  const isOver = others.some(
    ({ paidAt, startsPeriod }) => paidAt > refundedAt || (startsPeriod && paidAt > periodFrom),
  );
  return isOver ? undefined : refundedAt;
}

/** By what Stripe tells, else the invoice of that amount paid nearest to the charge, and before its refund. */
function findOwnPayment(charge: Charge, payments: readonly Payment[]): Payment | undefined {
  const told = payments.find(
    ({ chargeId, invoiceId, paymentIntentId }) =>
      chargeId === charge.id ||
      invoiceId === charge.invoiceId ||
      (paymentIntentId !== null && paymentIntentId === charge.paymentIntentId),
  );
  if (told !== undefined || charge.invoiceId !== null) return told;
  const chargedAt = charge.chargedAt?.getTime() ?? 0;
  const until = charge.refundedAt?.getTime() ?? Number.POSITIVE_INFINITY;
  return payments
    .filter(({ chargeId, paymentIntentId }) => chargeId === null && paymentIntentId === null)
    .filter(({ paidAt }) => paidAt.getTime() >= chargedAt - PAID_BEFORE_MS && paidAt.getTime() <= until)
    .filter(({ amountCents }) => amountCents === null || amountCents === (charge.amountCents ?? amountCents))
    .toSorted((a, b) => distance(a.paidAt, chargedAt) - distance(b.paidAt, chargedAt))[0];
}

function distance(at: Date, ms: number): number {
  return Math.abs(at.getTime() - ms);
}

/** What is known of a charge once its own words are added, in any order: refunds only grow. */
export function addCharge(known: Charge | undefined, news: ChargeFacts, at: Date): Charge {
  const before = known ?? unheardOf(news.chargeId);
  return {
    ...before,
    invoiceId: news.invoiceId ?? before.invoiceId,
    paymentIntentId: news.paymentIntentId ?? before.paymentIntentId,
    amountCents: news.amountCents,
    amountRefundedCents: Math.max(before.amountRefundedCents, news.amountRefundedCents),
    chargedAt: news.chargedAt,
    refundedAt: news.isRefunded ? earliest(before.refundedAt, at) : before.refundedAt,
  };
}

/** The same for a dispute about it. Inquiries and what is still open are recorded only. */
export function addDispute(known: Charge | undefined, news: DisputeFacts, at: Date): Charge {
  const before = known ?? unheardOf(news.chargeId);
  return {
    ...before,
    paymentIntentId: news.paymentIntentId ?? before.paymentIntentId,
    disputeStatus: moreFinal(before.disputeStatus, news.disputeStatus),
    disputeLostAt: news.disputeStatus === "lost" ? earliest(before.disputeLostAt, at) : before.disputeLostAt,
  };
}

/** The same for a paid invoice; undefined when no money came with it, as when a trial begins. */
export function addPayment(
  known: Payment | undefined,
  subscriptionId: string,
  news: InvoicePayment,
  at: Date,
): Payment | undefined {
  if (news.amountCents === 0) return known;
  return {
    ...known,
    invoiceId: news.invoiceId,
    subscriptionId,
    chargeId: news.chargeId ?? known?.chargeId ?? null,
    paymentIntentId: news.paymentIntentId ?? known?.paymentIntentId ?? null,
    amountCents: news.amountCents ?? known?.amountCents ?? null,
    currency: news.currency ?? known?.currency ?? null,
    startsPeriod: news.startsPeriod,
    paidAt: earliest(known?.paidAt ?? null, news.paidAt ?? at),
  };
}

function unheardOf(id: string): Charge {
  return {
    id,
    invoiceId: null,
    paymentIntentId: null,
    amountCents: null,
    amountRefundedCents: 0,
    chargedAt: null,
    refundedAt: null,
    disputeStatus: null,
    disputeLostAt: null,
    unblockedAt: null,
  };
}

function moreFinal(a: string | null, b: string): string {
  if (a === null) return b;
  const difference = finality(a) - finality(b);
  return difference > 0 || (difference === 0 && a > b) ? a : b;
}

function finality(status: string): number {
  return DISPUTE_FINALITY[status] ?? (status.startsWith("warning_") ? 1 : 2);
}

function earliest(a: Date | null, b: Date): Date {
  return a !== null && a < b ? a : b;
}
