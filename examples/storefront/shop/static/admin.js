// All purchases, and their refunds by POST /api/payments/admin/refund/<purchaseId> of flask_refunds.

import { call } from "./api.js";
import { copy, showDate, showStatus, tell, typeName } from "./fill.js";
import { format } from "./money.js";
import * as session from "./session.js";

const outcome = document.getElementById("outcome");
const ledger = document.getElementById("ledger");
const rows = document.getElementById("rows");
const dialog = document.getElementById("refund-dialog");
const form = document.getElementById("refund-form");

const LOOK_AGAIN_MS = 4000;

/** What the last refund of a purchase was answered, until the purchase changes: id -> {text, mood, again}. */
const answers = new Map();
let purchases = [];
let shown = "";
let silent = false;
let watch;

function paidTogether(purchase) {
  return purchases.filter((each) => each.paymentIntent === purchase.paymentIntent);
}

function isOpen(purchase) {
  return purchase.refundStatus === "pending" || Boolean(answers.get(purchase.id)?.again);
}

function show(purchase) {
  const { root, parts } = copy("row");
  const others = paidTogether(purchase).filter((each) => each.id !== purchase.id);
  root.dataset.id = purchase.id;
  parts.title.textContent = purchase.content.title;
  parts.type.textContent = typeName(purchase.content.type);
  parts.together.textContent = others.length
    ? `one payment with ${others.map((each) => each.content.title).join(", ")}`
    : "";
  parts.customer.textContent = purchase.user.name;
  parts.email.textContent = purchase.user.email;
  parts.price.textContent = format(purchase.amount, purchase.currency);
  parts.card.textContent = `•••• ${purchase.cardLast4}`;
  showDate(parts.date, purchase.createdAt);
  showStatus(parts.status, purchase.status);
  showAction(parts, purchase);
  rows.append(root);
}

function showAction({ button, answer }, purchase) {
  const refundable = purchase.status === "completed";
  const word = isOpen(purchase) ? "Check again" : "Refund";
  button.hidden = !refundable;
  button.textContent = word;
  button.setAttribute("aria-label", `${word}: ${purchase.content.title}, ${purchase.user.name}`);
  button.addEventListener("click", () => (isOpen(purchase) ? refund(purchase, undefined) : ask(purchase)));
  const told = answers.get(purchase.id);
  if (told) tell(answer, told.text, told.mood);
  else if (refundable && purchase.refundStatus === "pending")
    tell(answer, "A refund is pending at Stripe. Check again, or wait for Stripe to tell.", "waiting");
  else if (refundable && purchase.refundStatus === "failed")
    tell(answer, "A refund failed: the customer did not get the money.", "bad");
}

function ask(purchase) {
  const together = paidTogether(purchase);
  const amount = together.reduce((sum, each) => sum + each.amount, 0);
  const titles = together.map((each) => `“${each.content.title}”`).join(" and ");
  document.getElementById("refund-amount").textContent = format(amount, purchase.currency);
  document.getElementById("refund-what").textContent =
    `${purchase.user.name} gets the whole payment back, and loses access to ${titles}.`;
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
      ? "Stripe then blocks this card and e-mail address for all your payments."
      : "";
}

async function refund(purchase, body) {
  const row = rows.querySelector(`[data-id="${purchase.id}"]`);
  row.querySelector("button").disabled = true;
  tell(row.querySelector(".answer"), "Asking Stripe…", "waiting");
  const told = await call(`/api/payments/admin/refund/${purchase.id}`, { method: "POST", body })
    .then(describe)
    .catch(() => ({
      text: "No answer. The refund may have been made: check again. It cannot be made twice.",
      mood: "bad",
      again: true,
    }));
  await load(() => answers.set(purchase.id, told));
  tell(outcome, `${purchase.content.title}, ${purchase.user.name}. ${told.text}`, told.mood);
  focusRow(purchase.id);
}

function focusRow(id) {
  rows.querySelector(`[data-id="${id}"] :is(button:not([hidden]), .answer)`)?.focus();
}

/** What came back, in the server's own words and then in ours. */
function describe({ status, body, retryAfter }) {
  if (status === 200) {
    const { amount, currency } = body.refund;
    return { text: `${body.message}: ${format(amount, currency)}.`, mood: "good" };
  }
  if (status === 202 && body.refund.status === "processing") {
    return {
      text: `${body.message}: Stripe has not answered, so the outcome is not known yet. Check again; it cannot be made twice.`,
      mood: "waiting",
      again: true,
    };
  }
  if (status === 202) {
    return { text: `${body.message}: Stripe has not paid it yet. Check again in some seconds.`, mood: "waiting", again: true };
  }
  const why = body.refund?.failure?.message;
  const when = retryAfter ? `Try again in ${retryAfter} s.` : "";
  const words = body.error ?? `The server answered ${status}`;
  const again = status === 409;
  return { text: [`${words}${why ? `: ${why}` : ""}`.replace(/([^.])$/, "$1."), when].join(" ").trim(), mood: "bad", again };
}

/** @param {() => void} beforeShowing what to note between the news and its showing */
async function load(beforeShowing = () => {}) {
  const answer = await call("/api/admin/purchases").catch(() => ({ ok: false, body: {} }));
  if (!answer.ok) {
    if (answer.status === 403) clearInterval(watch);
    silent = true;
    tell(outcome, answer.body.error ?? "The shop does not answer.", "bad");
    return;
  }
  if (silent) tell(outcome, "");
  silent = false;
  forgetOutdated(answer.body.purchases);
  beforeShowing();
  const news = JSON.stringify([answer.body.purchases, [...answers]]);
  if (news === shown) return;
  shown = news;
  purchases = answer.body.purchases;
  const focused = rows.contains(document.activeElement) && document.activeElement.closest("tr").dataset.id;
  rows.replaceChildren();
  purchases.forEach(show);
  if (focused) focusRow(focused);
  ledger.hidden = purchases.length === 0;
  if (purchases.length === 0) tell(outcome, "Nothing has been bought yet.");
}

/** An answer is no longer true of a purchase that Stripe has since told us more about. */
function forgetOutdated(news) {
  const before = new Map(purchases.map((each) => [each.id, `${each.status} ${each.refundStatus}`]));
  for (const { id, status, refundStatus, content, user } of news) {
    if (!before.has(id) || before.get(id) === `${status} ${refundStatus}`) continue;
    answers.delete(id);
    const why = status === "completed" && refundStatus === "failed" ? ", because its refund failed" : "";
    tell(outcome, `${content.title}, ${user.name}: the purchase is now ${status}${why}.`, why ? "bad" : "");
  }
}

form.elements.reason.addEventListener("change", showReasonHint);
document.getElementById("reload").addEventListener("click", () => {
  answers.clear();
  tell(outcome, "");
  load();
});

if (session.current()) {
  load();
  // Stripe may tell of a refund at any time: a pending one ends, a successful one fails.
  watch = setInterval(() => document.hidden || dialog.open || load(), LOOK_AGAIN_MS);
} else {
  session.askToSignIn();
}
