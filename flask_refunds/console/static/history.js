// The entries of a refund's history, as sentences.

import { dateTime, money } from "./format.js";
import { PENDING_REASONS, REVIEWS, STATUS } from "./messages.js";

const PLACES = { api: "admin page", cli: "command line", app: "your app" };

/**
 * @param entry an item of the refund's `history`
 * @param previous the entry before it, if any
 * @param names the names of users by their IDs
 * @returns {{text: string, detail: string|null}}
 */
export function describeEntry(entry, previous, refund, names) {
  const { status, actor, comment, review, failureCode, details, previousAmount } = entry;
  const person = personOf(actor, names);
  const isNew = status !== previous?.status;
  const detail = [comment, review && `Needs review: ${REVIEWS[review] ?? review}`].filter(Boolean).join(". ") || null;
  if (entry.decision === "cancel") return { text: `Cancellation requested by ${person}`, detail };
  if (!previous) return { text: firstSentence(refund, status, actor, person), detail };
  if (comment) return { text: `${isNew ? DECISIONS[status] ?? "Decided" : "Review closed"} by ${person}`, detail };
  if (failureCode) return { text: `Stripe rejected the refund (${failureCode})`, detail };
  if (details) return { text: describeDetails(details, refund).join(". ") || "Stripe reported more details", detail };
  if (isNew) return { text: `${REPORTERS[actor] ?? "Stripe answered: it"} ${HAS_STATUS[status] ?? `is ${status}`}`, detail };
  if (previousAmount) return { text: `Stripe shows another amount than before: it was ${money(previousAmount, refund.currency)}`, detail };
  return { text: detail ?? "Checked at Stripe", detail: null };
}

const DECISIONS = { failed: "Marked as failed" };
const REPORTERS = { webhook: "Stripe reported that it", reconcile: "Reconcile found that it" };
const HAS_STATUS = {
  processing: "has an unknown outcome",
  requires_action: "waits for the customer",
  pending: "is pending",
  succeeded: "succeeded",
  failed: "failed",
  canceled: "was canceled",
};

/** Who acted and where, from `api:<user ID>`, `cli:<name>` or `app:<name>`. */
function personOf(actor, names) {
  const [, kind, id] = /^(\w+)(?::(.*))?$/s.exec(actor ?? "") ?? [];
  const name = id && (kind === "api" ? names[id] ?? id : id);
  return [name, PLACES[kind] ?? kind].filter(Boolean).join(", ") || "—";
}

function firstSentence({ source }, status, actor, person) {
  if (source !== "external") return `Requested by ${person}`;
  const finder = { webhook: "Stripe reported", reconcile: "Reconcile found" }[actor] ?? "Found at Stripe:";
  return `${finder} a refund from outside this shop: ${STATUS[status] ?? status}`;
}

const DETAILS = {
  reference: (value) => `Bank reference ${value} arrived`,
  referenceStatus: (value, { reference }) => !reference && value === "unavailable" && "The bank gives no reference",
  isReversal: (value) => value && "Stripe reversed the charge",
  pendingReason: (value) => `Pending: ${PENDING_REASONS[value] ?? value}`,
  actionEmail: (value) => `Stripe wrote to ${value}`,
  actionExpiresAt: (value) => `The customer has until ${dateTime(value)}`,
  receiptNumber: (value) => `Receipt number ${value} arrived`,
  balanceTransaction: (value) => `Taken from the Stripe balance (${value})`,
  failureBalanceTransaction: (value) => `Returned to the Stripe balance (${value})`,
  presentmentAmount: (value, { presentmentCurrency }) => `The customer sees ${money(value, presentmentCurrency)}`,
};

const describeDetails = (details) => Object.entries(DETAILS).filter(([name]) => name in details).map(([name, say]) => say(details[name], details)).filter(Boolean);
