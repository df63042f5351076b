// The page's messages. Each outcome of a refund has its own, and no message claims more than is known.

import { dateTime, money } from "./format.js";

export const STATUS = {
  processing: "outcome unknown",
  requires_action: "waiting for the customer",
  pending: "pending",
  succeeded: "succeeded",
  failed: "failed",
  canceled: "canceled",
  completed: "completed",
  refunded: "refunded",
};

export const SEVERITY = {
  processing: "warning", requires_action: "warning", pending: "warning",
  succeeded: "success", refunded: "info",
  failed: "error", canceled: "error",
};

export const REASONS = {
  requested_by_customer: "Requested by the customer",
  duplicate: "Duplicate",
  fraudulent: "Fraudulent",
};

const SOURCES = { api: "admin page", cli: "command line", app: "your app", external: "outside this shop" };

/** The name of a user, or else the ID. */
export const nameOf = (id, names) => (names && Object.hasOwn(names, id) ? names[id] : id);

/** Who requested a refund, and where: "Ada Okafor, admin page". */
export const requester = ({ requestedBy, source }, names) =>
  [source === "cli" ? requestedBy : nameOf(requestedBy, names), SOURCES[source] ?? source].filter(Boolean).join(", ");

export const PENDING_REASONS = {
  processing: "The bank or payment service is processing it",
  insufficient_funds: "The Stripe balance is too low",
  charge_pending: "The payment hasn't settled yet",
};

/** What banks call a refund's reference (https://docs.stripe.com/refunds#tracing-refunds). */
export const REFERENCE_TYPES = { acquirer_reference_number: "acquirer reference number (ARN)" };

export const REVIEWS = {
  failed_after_success: "Failed after it succeeded",
  found_after_failure: "Found at Stripe after it was recorded as failed",
  unknown_too_long: "Outcome unknown for too long",
  amount_differs: "Amount differs at Stripe",
  unreadable_at_stripe: "Not readable at Stripe",
  purchase_not_updated: "Purchase not updated",
  action_required_again: "Waiting for the customer again",
  balance_too_low: "Balance at Stripe too low",
  disputed: "Payment disputed",
  transfer_not_reversed: "Transfer not reversed",
  amounts_disagree: "More refunded than paid",
  made_twice: "Shown twice at Stripe",
};

const BRANDS = { amex: "American Express", diners: "Diners Club", jcb: "JCB", mastercard: "Mastercard", unionpay: "UnionPay", visa: "Visa" };

export const card = ({ brand, last4 }) => `${BRANDS[brand] ?? brand} •••• ${last4}`;

/** When the customer sees the money (https://docs.stripe.com/refunds). */
export const WHEN = "It usually shows within 5 to 10 business days, depending on the customer's bank or payment service.";

const SAFE_TO_RETRY = "Trying again is safe: it resumes this refund and never makes a second one.";

/**
 * Describe the result of a refund request.
 * @returns {{severity: string, title: string, text: string, button: string|null, isOutdated?: boolean}}
 *   `button`: the label of the next action; `isOutdated`: whether that is to look at the payment again
 */
export function describeResult(result) {
  const { status, code, message, refund, hint } = result;
  if (status === 0) return warning("No response", `The refund may or may not have been made. ${SAFE_TO_RETRY}`, "Try again");
  if (code === "rejected_elsewhere") return warning("Request rejected", `${message} Most likely, nothing was sent to Stripe. ${SAFE_TO_RETRY} If it happens again, tell your developers.`, "Try again");
  if (code === "cross_site_request") return error("Request rejected", `${sentence(message)} Nothing was refunded. ${hint}`);
  if (status === 200 && hint) return warning("Refunded", hint);
  if (status === 202 && hint) return warning("Outcome unknown", `${hint} ${SAFE_TO_RETRY}`, "Try again");
  if (code === "stripe_key_rejected") return error("Stripe rejected the server's key", `${withHint(message, hint)} Tell your developers, then try again.`, "Try again");
  if (status === 200 || status === 202) return (BY_REFUND_STATUS[refund.status] ?? describeOther)(refund);
  if (code === "refundable_changed") return { ...warning("Something else is left now", "Meanwhile, another part of this payment was refunded or requested, or failed. Nothing was refunded now. Look at what is left before you decide again.", "Look again"), isOutdated: true };
  if (code === "purchase_not_refundable") return describeNotRefundable(refund, hint);
  return BY_HTTP_STATUS[status]?.(result) ?? describeServerError(result);
}

/** Describe a result that arrives after its dialog was closed, so that the same request can't be sent again. */
export function describeLateResult(result) {
  const { severity, title, text } = describeResult(result);
  return { severity, text: `${title}. ${text.replace(/Trying again is safe: [^.]*\./, "Open the refund dialog again: it shows what was refunded.")}` };
}

const messageOf = (severity) => (title, text, button = null) => ({ severity, title, text, button });
const success = messageOf("success");
const warning = messageOf("warning");
const error = messageOf("error");

const BY_REFUND_STATUS = {
  succeeded: ({ amount, currency }) =>
    success("Refunded", `${money(amount, currency)} is on its way to the customer. ${WHEN}`),
  pending: ({ amount, currency }) =>
    warning("Refund pending", `Stripe accepted the refund of ${money(amount, currency)} but hasn't paid it out yet. You don't need to do anything. This page shows when it completes.`),
  requires_action: () =>
    warning("Waiting for the customer", "Stripe needs the customer's details to pay out the refund, and emailed the customer. This page shows when it completes."),
  processing: () => warning("Outcome unknown", `Stripe didn't respond, so the refund may or may not have been made. ${SAFE_TO_RETRY}`, "Try again"),
  failed: (refund) => error("Refund failed", describeFailure(refund)),
  canceled: (refund) => error("Refund canceled", describeFailure(refund)),
};

const BY_HTTP_STATUS = {
  400: ({ code, message, hint, refund }) =>
    code === "refund_failed" ? describeRejection(refund, hint) : error("This purchase can't be refunded", withHint(message, hint)),
  401: () => error("Sign in to refund", "Nothing was sent to Stripe, and your input is kept. Sign in, then continue here.", "Refund now"),
  403: () => error("Admin access required", "You are signed in, but not as an admin. Nothing was refunded."),
  404: () => error("Purchase not found", "This purchase no longer exists. Nothing was refunded."),
  409: ({ retryAfter }) =>
    warning("Refund already in progress", `Another window or a colleague is refunding this payment, so no second request was sent. Check again in ${retryAfter ?? "a few"} seconds.`, "Check again"),
  503: ({ message, retryAfter }) => error("Stripe is busy", `${sentence(message)}${retryAfter ? ` Wait ${retryAfter} seconds.` : ""}`, "Try again"),
};

function describeServerError({ message, hint }) {
  return error("Server error", `${withHint(message, hint)} Trying again is safe: it never makes a second refund.`, "Try again");
}

function describeNotRefundable(refund, hint) {
  if (refund?.status !== "succeeded") return error("Only completed purchases can be refunded", hint ?? "This purchase isn't completed, or was refunded outside this app. Nothing was sent to Stripe.");
  return success("Already refunded", `${money(refund.amount, refund.currency)} was refunded on ${dateTime(refund.settledAt)}. No second refund was made.`);
}

/** What Stripe's codes make useless to repeat. `parameter_missing`: the dialog asks for what is missing. */
const FINAL_FAILURES = new Set([
  "charge_already_refunded", "charge_disputed", "charge_for_pending_refund_disputed", "charge_not_captured", "charge_not_refundable",
  "expired_or_canceled_card", "lost_or_stolen_card", "payment_intent_unexpected_state", "resource_missing",
]);

function describeRejection(refund, hint) {
  const code = refund?.failure?.code;
  const text = refund?.advice ? describeFailure(refund) : withHint(describeFailure(refund), hint);
  if (code === "parameter_missing") return { ...error("Refund failed", text, "Look again"), isOutdated: true };
  return error("Refund failed", text, FINAL_FAILURES.has(code) ? null : "Try again");
}

/** What happened, where the money is, and what to do. Stripe's own words say more where the advice is general. */
function describeFailure(refund) {
  const { advice, failure } = refund ?? {};
  if (!advice) return `${sentence(failure?.message)} Nothing was refunded.`.trim();
  return [advice.happened, !refund.stripeRefundId && failure && `Stripe says: ${sentence(failure.message)}`, advice.money, advice.action].filter(Boolean).join(" ");
}

const describeOther = ({ status }) => warning(`Refund ${STATUS[status] ?? status}`, "");

/** Describe a refund whose status changed. */
export function describeChange(refund) {
  // Stripe never told the amount of a refund that it didn't make.
  const name = refund.amount === null ? "A refund" : `Refund of ${money(refund.amount, refund.currency)}`;
  if (refund.status === "succeeded") return `${name} succeeded.`;
  if (refund.status === "failed" || refund.status === "canceled") return `${name} ${refund.status}: ${describeFailure(refund)}`;
  return `${name} is ${STATUS[refund.status]}.`;
}

/** Say why data can't be shown. */
export function errorMessage({ status, code, message, hint }) {
  if (status === 401) return "Sign in to view this.";
  if (code === "purchase_not_refundable") return `${sentence(message)} This one was refunded or changed meanwhile. Reload the page to see it.`;
  if (code === "admin_required") return "Admin access required. You are signed in, but not as an admin.";
  return status ? withHint(message, hint) : "The server isn't responding.";
}

/** Say why a decision about a refund wasn't stored, as far as that is known. */
export function decisionError(error) {
  if (error.status === 401) return "Nothing was changed. Sign in, then send it again.";
  return error.status ? errorMessage(error) : "No response: this may or may not have been done. Sending it again is safe.";
}

/** Whether the same request may have another result. What the API refuses with 4xx stays refused, except for a conflict. */
export const canRetry = ({ status, code }) => !code || status >= 500 || status === 409;

const withHint = (message, hint) => [sentence(message), hint].filter(Boolean).join(" ");

const sentence = (text = "") => (text && !/[.!?…]$/.test(text) ? `${text}.` : text ?? "");
