// What the page says. Every outcome of a refund has its own words, and none says more than is known.

import { money, moment } from "./format.js";

export const STATUS = {
  processing: "outcome unknown",
  requires_action: "needs the customer",
  pending: "pending",
  succeeded: "succeeded",
  failed: "failed",
  canceled: "canceled",
  completed: "completed",
  refunded: "refunded",
};

export const MOOD = {
  processing: "waiting", requires_action: "waiting", pending: "waiting",
  succeeded: "good", refunded: "done",
  failed: "bad", canceled: "bad",
};

/** How a refund's history tells its first step, before which nothing was known. */
export const STEP = { ...STATUS, processing: "asked for" };

export const REASONS = {
  requested_by_customer: "Requested by the customer",
  duplicate: "Duplicate",
  fraudulent: "Fraudulent",
};

export const WHY = {
  failed_after_success: "Failed after it had succeeded",
  found_after_failure: "Found at Stripe after it was recorded as failed",
  unknown_too_long: "Nobody knows how it ended",
  amount_differs: "Stripe shows another amount",
};

const BRANDS = { amex: "American Express", diners: "Diners Club", jcb: "JCB", mastercard: "Mastercard", unionpay: "UnionPay", visa: "Visa" };

export const card = ({ brand, last4 }) => `${BRANDS[brand] ?? brand} •••• ${last4}`;

const AGAIN = "Asking again goes on with this same refund; it cannot be made twice.";

/**
 * A refund's outcome in words.
 * @returns {{mood: string, title: string, text: string, again: string|null}} `again`: the word on the button
 */
export function describe(outcome) {
  const { status, code, refund } = outcome;
  if (status === 0) {
    return waiting("The answer was lost", `The refund may have been made, or not. ${AGAIN}`, "Ask again");
  }
  if (status === 200 || status === 202) return BY_REFUND[refund.status](refund);
  if (code === "purchase_not_refundable") return notRefundable(refund);
  return BY_STATUS[status]?.(outcome) ?? fault(outcome);
}

const say = (mood) => (title, text, again = null) => ({ mood, title, text, again });
const good = say("good");
const waiting = say("waiting");
const bad = say("bad");

const BY_REFUND = {
  succeeded: (refund) =>
    good("Refunded", `${money(refund.amount, refund.currency)} is on its way back. The customer sees it in 5 to 10 business days.`),
  pending: (refund) =>
    waiting("Pending at Stripe", `Stripe has accepted the refund of ${money(refund.amount, refund.currency)} and has yet to pay it out. There is nothing left to do; this page tells when it is done.`),
  requires_action: () =>
    waiting("Waiting for the customer", "Stripe needs the customer's details to pay the refund out and has asked for them by e-mail. This page tells when it is done."),
  processing: () =>
    waiting("Sent, and the outcome is not known yet", `Stripe's answer did not come, so the refund may have been made. ${AGAIN}`, "Ask again"),
  failed: (refund) => bad("The refund failed", failure(refund)),
  canceled: (refund) => bad("The refund was canceled", failure(refund)),
};

const BY_STATUS = {
  400: ({ code, error, refund }) =>
    code === "refund_failed"
      ? bad("Stripe refused the refund", failure(refund), "Try again")
      : bad("This cannot be refunded", sentence(error)),
  401: () => bad("Your sign-in has expired", "Nothing was sent to Stripe, and nothing you wrote is lost: sign in again, then go on here.", "Refund now"),
  403: () => bad("Only admins may refund", "You are signed in, but not as an admin. Nothing was refunded."),
  404: () => bad("This purchase no longer exists", "Nothing was refunded."),
  409: ({ retryAfter }) =>
    waiting("Already being refunded", `Another window or a colleague is at it right now, so nothing was sent a second time. Look again in ${retryAfter ?? "some"} seconds.`, "Look again"),
  503: ({ error, retryAfter }) => bad("Stripe is busy", `${sentence(error)}${retryAfter ? ` Wait ${retryAfter} seconds.` : ""}`, "Try again"),
};

function fault({ error }) {
  return bad("The server has a fault", `${sentence(error)} A refund cannot be made twice, so trying again is safe.`, "Try again");
}

function notRefundable(refund) {
  if (refund?.status !== "succeeded") return bad("There is nothing to refund", "The purchase is not completed, or was refunded elsewhere. Nothing was sent to Stripe.");
  return good("Already refunded", `${money(refund.amount, refund.currency)} went back on ${moment(refund.settledAt)}. Nothing was sent a second time.`);
}

function failure(refund) {
  return `${sentence(refund?.failure?.message ?? "")} Nothing went back to the customer.`.trim();
}

/** What there is to say of a refund of which news came by itself. */
export function news(refund) {
  const amount = money(refund.amount, refund.currency);
  if (refund.status === "succeeded") return `Refund of ${amount} succeeded.`;
  if (refund.status === "failed" || refund.status === "canceled") return `Refund of ${amount} ${refund.status}: ${failure(refund)}`;
  return `Refund of ${amount} is ${STATUS[refund.status]}.`;
}

/** Why a list or a payment cannot be shown. */
export function trouble(error) {
  if (error.status === 401) return "Sign in to see this.";
  if (error.status === 403) return "Only admins may see this. You are signed in, but not as an admin.";
  return error.status ? sentence(error.message) : "The server does not answer.";
}

const sentence = (text) => (text && !/[.!?…]$/.test(text) ? `${text}.` : text ?? "");
