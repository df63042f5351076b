// One refund: what happened, where the money is, what to do and to answer, its details, and its history.

import { CopyButton } from "./copy.js";
import { Note, Status, Time } from "./components.js";
import { dateTime, money } from "./format.js";
import { describeEntry } from "./history.js";
import { PENDING_REASONS, REASONS, REFERENCE_TYPES, requester, REVIEWS } from "./messages.js";
import { Cancel, Resolve } from "./resolve.js";
import { html } from "./ui.js";

export function RefundPanel({ refund, names }) {
  const { id, amount, currency, status, createdAt, review, history } = refund;
  return html`<article class="panel refund" aria-label="Refund ${id}">
    <header class="panel-head"><h3>${money(amount, currency)} <${Status} status=${status} /></h3><span class="muted"><${Time} iso=${createdAt} /></span></header>
    ${review && html`<${Note} severity="error" title="Needs review: ${REVIEWS[review.code] ?? review.code}.">Do what it says below, then close the review.<//>`}
    <${Advice} refund=${refund} />
    <${CustomerMessage} refund=${refund} />
    <${Cancel} refund=${refund} />
    ${review && html`<${Resolve} refund=${refund} />`}
    <h4>Details</h4>
    <${Details} rows=${rows(refund, names)} />
    <h4>History</h4>
    <ol class="history">${(history ?? []).map((entry, position) => html`<${HistoryEntry} entry=${entry} previous=${history[position - 1]} refund=${refund} names=${names} />`)}</ol>
  </article>`;
}

/** What happened, where the money is, and what to do. A review comes first; why a bank returned the money is told beside it. */
export function Advice({ refund: { advice, failure, review, stripeRefundId } }) {
  if (!advice) return null;
  const { happened, money, action } = advice;
  const isReturned = review?.code === "failed_after_success";
  const rejection = !stripeRefundId && failure?.message;
  return html`<${Details} rows=${[
    ["What happened", html`${sentences(review?.message, (!review || isReturned) && happened)}${rejection && html`<small>Stripe says: ${rejection}</small>`}`],
    ["The money", money],
    ["What to do", sentences(review?.recommendedAction, (!review || isReturned) && action)],
  ]} />`;
}

const sentences = (...all) => all.filter(Boolean).join(" ");

/** What support can answer the customer. */
export const CustomerMessage = ({ refund: { customerMessage } }) =>
  customerMessage
    ? html`<figure class="answer"><figcaption>Answer for the customer <${CopyButton} text=${customerMessage} label="the answer" /></figcaption>
        <blockquote>${customerMessage}</blockquote></figure>`
    : null;

/** @prop rows [[name, value], …]; those without a value are left out */
const Details = ({ rows }) =>
  html`<dl class="details">${rows.filter(([, value]) => value).map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;

const code = (text) => text && html`<span class="code">${text}</span>`;

function rows(refund, names) {
  const { reason, note, bulkRun, part, stripeRefundId, details = {} } = refund;
  return [
    ["Bank reference", bankReference(refund.status, details)],
    ["Kind", details.isReversal && "Reversal: the charge vanishes from the statement, without a separate credit"],
    ["Why pending", refund.status === "pending" && PENDING_REASONS[details.pendingReason]],
    ["Customer must", refund.status === "requires_action" && mustDo(details)],
    ["Customer sees", details.presentmentCurrency && money(details.presentmentAmount, details.presentmentCurrency)],
    ["Receipt", code(details.receiptNumber)],
    ["Reason", REASONS[reason] ?? "None given"],
    ["Requested by", requester(refund, names)],
    ["Bulk run", code(bulkRun)],
    ["Internal note", note],
    ["Purchase", part?.markRefunded && "Closed with this part"],
    ["Stripe ID", code(stripeRefundId)],
    ["Taken from balance", code(details.balanceTransaction)],
    ["Back in balance", code(details.failureBalanceTransaction)],
  ];
}

/** The number by which the customer's bank finds the refund. */
function bankReference(status, { reference, referenceType, referenceStatus }) {
  if (reference) {
    const type = REFERENCE_TYPES[referenceType] ?? referenceType?.replaceAll("_", " ");
    return html`${code(reference)} <${CopyButton} text=${reference} label="the bank reference" />${type && html`<small>${type}</small>`}`;
  }
  if (status !== "succeeded") return null;
  if (referenceStatus === "unavailable") return "None: the bank gives no reference for this refund";
  return referenceStatus === "pending" && "Not there yet: it can take up to 7 business days";
}

function mustDo({ actionEmail, actionEmailSentAt, actionExpiresAt }) {
  const email = `Follow Stripe's e-mail${actionEmailSentAt ? ` of ${dateTime(actionEmailSentAt)}` : ""}${actionEmail ? ` to ${actionEmail}` : ""}`;
  return actionExpiresAt ? `${email}, until ${dateTime(actionExpiresAt)}. After that, the refund fails.` : `${email}.`;
}

function HistoryEntry({ entry, previous, refund, names }) {
  const { at, status, stripeRequestId } = entry;
  const { text, detail } = describeEntry(entry, previous, refund, names);
  return html`<li class=${status} data-status=${status}>
    <span class="entry-text">${text}${detail && html`<small>${detail}</small>`}</span>
    <span class="muted entry-time"><${Time} iso=${at} />${stripeRequestId && html` <span class="code">${stripeRequestId}</span>`}</span>
  </li>`;
}
