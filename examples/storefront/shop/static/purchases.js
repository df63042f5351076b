// The customer's purchases, and access to their content.

import { call } from "./api.js";
import { format } from "./money.js";
import * as session from "./session.js";
import { copyTemplate, showDate, showMessage, showStatus, typeName } from "./templates.js";

const message = document.getElementById("message");
const list = document.getElementById("purchases");

function describe(purchase) {
  if (purchase.status === "pending") return "Waiting for Stripe to confirm the payment.";
  if (purchase.status === "failed") return "The card was declined, and nothing was charged.";
  if (purchase.status === "refunded") return "Your refund is on its way, and access has ended.";
  if (purchase.refundStatus === "pending") return "A refund is pending. Access ends when it succeeds.";
  if (purchase.refundStatus === "failed") return "A refund failed. You keep access.";
  return "";
}

function show(purchase) {
  const { root, slots } = copyTemplate("purchase");
  slots.title.textContent = purchase.content.title;
  slots.type.textContent = typeName(purchase.content.type);
  showDate(slots.date, purchase.createdAt);
  slots.price.textContent = format(purchase.amount, purchase.currency);
  showStatus(slots.status, purchase.status);
  slots.note.textContent = describe(purchase);
  slots.open.hidden = !purchase.accessGranted;
  slots.open.setAttribute("aria-label", `Open ${purchase.content.title}`);
  slots.open.addEventListener("click", () => toggle(slots, purchase));
  list.append(root);
}

async function toggle(slots, purchase) {
  if (slots.body.hidden) {
    const response = await call(`/api/contents/${purchase.content.id}`).catch(() => ({ ok: false, body: {} }));
    slots.body.textContent = response.ok ? response.body.body : (response.body.error ?? "The shop isn't responding.");
  }
  slots.body.hidden = !slots.body.hidden;
  slots.open.textContent = slots.body.hidden ? "Open" : "Close";
  slots.open.setAttribute("aria-expanded", String(!slots.body.hidden));
}

async function load() {
  const response = await call("/api/purchases");
  if (!response.ok) {
    showMessage(message, response.body.error ?? "Your purchases can't be shown.", "error");
    return;
  }
  response.body.purchases.forEach(show);
  if (response.body.purchases.length === 0) showMessage(message, "You have no purchases yet.");
}

if (session.current()) {
  load().catch(() => showMessage(message, "The shop isn't responding.", "error"));
} else {
  session.redirectToSignIn();
}
