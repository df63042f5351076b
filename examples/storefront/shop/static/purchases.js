// What the customer bought, and the door to it.

import { call } from "./api.js";
import { copy, showDate, showStatus, tell, typeName } from "./fill.js";
import { format } from "./money.js";
import * as session from "./session.js";

const outcome = document.getElementById("outcome");
const list = document.getElementById("purchases");

function note(purchase) {
  if (purchase.status === "pending") return "Waiting for Stripe to confirm the payment.";
  if (purchase.status === "failed") return "The card was declined, and nothing was charged.";
  if (purchase.status === "refunded") return "Your money is on its way back, and access has ended.";
  if (purchase.refundStatus === "pending") return "A refund is on its way. Access ends when it arrives.";
  if (purchase.refundStatus === "failed") return "A refund was tried and failed. This is still yours.";
  return "";
}

function show(purchase) {
  const { root, parts } = copy("purchase");
  parts.title.textContent = purchase.content.title;
  parts.type.textContent = typeName(purchase.content.type);
  showDate(parts.date, purchase.createdAt);
  parts.price.textContent = format(purchase.amount, purchase.currency);
  showStatus(parts.status, purchase.status);
  parts.note.textContent = note(purchase);
  parts.open.hidden = !purchase.accessGranted;
  parts.open.setAttribute("aria-label", `Open ${purchase.content.title}`);
  parts.open.addEventListener("click", () => toggle(parts, purchase));
  list.append(root);
}

async function toggle(parts, purchase) {
  if (parts.body.hidden) {
    const answer = await call(`/api/contents/${purchase.content.id}`).catch(() => ({ ok: false, body: {} }));
    parts.body.textContent = answer.ok ? answer.body.body : (answer.body.error ?? "The shop does not answer.");
  }
  parts.body.hidden = !parts.body.hidden;
  parts.open.textContent = parts.body.hidden ? "Open" : "Close";
  parts.open.setAttribute("aria-expanded", String(!parts.body.hidden));
}

async function load() {
  const answer = await call("/api/purchases");
  if (!answer.ok) {
    tell(outcome, answer.body.error ?? "Your purchases cannot be shown.", "bad");
    return;
  }
  answer.body.purchases.forEach(show);
  if (answer.body.purchases.length === 0) tell(outcome, "You have bought nothing yet.");
}

if (session.current()) {
  load().catch(() => tell(outcome, "The shop does not answer.", "bad"));
} else {
  session.askToSignIn();
}
