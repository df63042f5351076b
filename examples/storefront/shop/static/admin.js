// All purchases. Refunds are made by POST /api/payments/admin/refund/<purchaseId> of flask_refunds.

import { call } from "./api.js";
import { format } from "./money.js";
import * as session from "./session.js";
import { copyTemplate, showDate, showMessage, showStatus, typeName } from "./templates.js";

const message = document.getElementById("message");
const table = document.getElementById("purchases-table");
const rows = document.getElementById("rows");
const dialog = document.getElementById("refund-dialog");
const form = document.getElementById("refund-form");

const POLL_INTERVAL_MS = 4000;

/** The last refund result of each purchase, until the purchase changes: id -> {text, severity, canRetry}. */
const results = new Map();
let purchases = [];
let rendered = "";
let isOffline = false;
let polling;

function paidTogether(purchase) {
  return purchases.filter((each) => each.paymentIntent === purchase.paymentIntent);
}

function isOpen(purchase) {
  return purchase.refundStatus === "pending" || Boolean(results.get(purchase.id)?.canRetry);
}

function show(purchase) {
  const { root, slots } = copyTemplate("row");
  const others = paidTogether(purchase).filter((each) => each.id !== purchase.id);
  root.dataset.id = purchase.id;
  slots.title.textContent = purchase.content.title;
  slots.type.textContent = typeName(purchase.content.type);
  slots.together.textContent = others.length
    ? `paid together with ${others.map((each) => each.content.title).join(", ")}`
    : "";
  slots.customer.textContent = purchase.user.name;
  slots.email.textContent = purchase.user.email;
  slots.price.textContent = format(purchase.amount, purchase.currency);
  slots.card.textContent = `•••• ${purchase.cardLast4}`;
  showDate(slots.date, purchase.createdAt);
  showStatus(slots.status, purchase.status);
  showAction(slots, purchase);
  rows.append(root);
}

function showAction({ button, result }, purchase) {
  const isRefundable = purchase.status === "completed";
  const label = isOpen(purchase) ? "Check again" : "Refund";
  button.hidden = !isRefundable;
  button.textContent = label;
  button.setAttribute("aria-label", `${label}: ${purchase.content.title}, ${purchase.user.name}`);
  button.addEventListener("click", () => (isOpen(purchase) ? refund(purchase, undefined) : openDialog(purchase)));
  const last = results.get(purchase.id);
  if (last) showMessage(result, last.text, last.severity);
  else if (isRefundable && purchase.refundStatus === "pending")
    showMessage(result, "A refund is pending at Stripe. This page shows when it completes.", "warning");
  else if (isRefundable && purchase.refundStatus === "failed")
    showMessage(result, "A refund failed. The customer didn't receive the money.", "error");
}

function openDialog(purchase) {
  const together = paidTogether(purchase);
  const amount = together.reduce((sum, each) => sum + each.amount, 0);
  const titles = together.map((each) => `“${each.content.title}”`).join(" and ");
  document.getElementById("refund-amount").textContent = format(amount, purchase.currency);
  document.getElementById("refund-description").textContent =
    `${purchase.user.name} gets the whole payment back and loses access to ${titles}.`;
  form.reset();
  showReasonHint();
  dialog.returnValue = "cancel";
  dialog.addEventListener(
    "close",
    () => {
      if (dialog.returnValue === "refund") refund(purchase, readForm());
    },
    { once: true },
  );
  dialog.showModal();
}

function readForm() {
  const { reason, note } = Object.fromEntries(new FormData(form));
  return { ...(reason && { reason }), ...(note.trim() && { note: note.trim() }) };
}

function showReasonHint() {
  document.getElementById("reason-hint").textContent =
    form.elements.reason.value === "fraudulent"
      ? "Stripe will block this card and email address for all your payments."
      : "";
}

async function refund(purchase, body) {
  const row = rows.querySelector(`[data-id="${purchase.id}"]`);
  row.querySelector("button").disabled = true;
  showMessage(row.querySelector(".result"), "Waiting for Stripe…", "warning");
  const result = await call(`/api/payments/admin/refund/${purchase.id}`, { method: "POST", body })
    .then(describe)
    .catch(() => ({
      text: "No response. The refund may or may not have been made. Check again: it can't be made twice.",
      severity: "error",
      canRetry: true,
    }));
  await load(() => results.set(purchase.id, result));
  showMessage(message, `${purchase.content.title}, ${purchase.user.name}. ${result.text}`, result.severity);
  focusRow(purchase.id);
}

function focusRow(id) {
  rows.querySelector(`[data-id="${id}"] :is(button:not([hidden]), .result)`)?.focus();
}

/** Describe the response to a refund request. */
function describe({ status, body, retryAfter }) {
  if (status === 200) {
    const { amount, currency } = body.refund;
    return { text: `${body.message}: ${format(amount, currency)}.`, severity: "success" };
  }
  if (status === 202) {
    const detail =
      body.refund.status === "processing"
        ? "Stripe didn't respond, so the outcome is unknown. Check again: it can't be made twice."
        : "Stripe hasn't paid it out yet. Check again in a few seconds.";
    return { text: `${body.message}: ${detail}`, severity: "warning", canRetry: true };
  }
  const error = [body.error ?? `The server returned status ${status}`, body.refund?.failure?.message].filter(Boolean).join(": ");
  const wait = retryAfter ? ` Try again in ${retryAfter} seconds.` : "";
  return { text: error.replace(/([^.])$/, "$1.") + wait, severity: "error", canRetry: status === 409 };
}

/** @param {() => void} beforeRendering called after the new purchases have arrived */
async function load(beforeRendering = () => {}) {
  const response = await call("/api/admin/purchases").catch(() => ({ ok: false, body: {} }));
  if (!response.ok) {
    if (response.status === 403) clearInterval(polling);
    isOffline = true;
    showMessage(message, response.body.error ?? "The shop isn't responding.", "error");
    return;
  }
  if (isOffline) showMessage(message, "");
  isOffline = false;
  dropOutdatedResults(response.body.purchases);
  beforeRendering();
  const next = JSON.stringify([response.body.purchases, [...results]]);
  if (next === rendered) return;
  rendered = next;
  purchases = response.body.purchases;
  const focused = rows.contains(document.activeElement) && document.activeElement.closest("tr").dataset.id;
  rows.replaceChildren();
  purchases.forEach(show);
  if (focused) focusRow(focused);
  table.hidden = purchases.length === 0;
  if (purchases.length === 0) showMessage(message, "There are no purchases yet.");
}

/** Drop the result of each purchase that has changed since. */
function dropOutdatedResults(current) {
  const before = new Map(purchases.map((each) => [each.id, `${each.status} ${each.refundStatus}`]));
  for (const { id, status, refundStatus, content, user } of current) {
    if (!before.has(id) || before.get(id) === `${status} ${refundStatus}`) continue;
    results.delete(id);
    const cause = status === "completed" && refundStatus === "failed" ? " because its refund failed" : "";
    showMessage(message, `${content.title}, ${user.name}: the purchase is now ${status}${cause}.`, cause ? "error" : "");
  }
}

form.elements.reason.addEventListener("change", showReasonHint);
document.getElementById("reload").addEventListener("click", () => {
  results.clear();
  showMessage(message, "");
  load();
});

if (session.current()) {
  load();
  // A refund can change at any time: a pending one settles, and a successful one can still fail.
  polling = setInterval(() => document.hidden || dialog.open || load(), POLL_INTERVAL_MS);
} else {
  session.redirectToSignIn();
}
