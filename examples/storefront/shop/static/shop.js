// The catalogue and the checkout.

import { call, newKey } from "./api.js";
import { format } from "./money.js";
import * as session from "./session.js";

const form = document.getElementById("checkout");
const total = document.getElementById("total");
const pay = document.getElementById("pay");
const message = document.getElementById("message");

const CONFIRMATION_TIMEOUT_MS = 15000;
const POLL_INTERVAL_MS = 300;

let orderKey = newKey();

function selected() {
  return [...form.querySelectorAll("input[name=content]:checked")];
}

function showMessage(text, severity = "") {
  message.textContent = text;
  message.dataset.severity = severity;
}

function updateTotal() {
  const boxes = selected();
  const currencies = new Set(boxes.map((box) => box.dataset.priceCurrency));
  const sum = boxes.reduce((amount, box) => amount + Number(box.dataset.price), 0);
  if (boxes.length === 0) total.textContent = "Nothing selected yet.";
  else if (currencies.size > 1) total.textContent = "These items have different currencies. Pay for them separately.";
  else total.textContent = `${boxes.length === 1 ? "1 item" : `${boxes.length} items`} · ${format(sum, [...currencies][0])}`;
  pay.disabled = boxes.length === 0 || currencies.size > 1;
  pay.textContent = session.current() ? "Pay" : "Sign in to pay";
}

function updateCard() {
  document.getElementById("card-outcome").textContent = form.elements.card.selectedOptions[0].dataset.outcome;
}

// A changed order gets a new key. An unchanged order that is sent twice is charged once.
form.addEventListener("change", () => {
  orderKey = newKey();
  showMessage("");
  updateTotal();
  updateCard();
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!session.current()) {
    session.redirectToSignIn();
    return;
  }
  pay.disabled = true;
  showMessage("Paying…", "warning");
  try {
    await order();
  } catch {
    showMessage("The shop isn't responding. It is safe to pay again: this order is charged once.", "error");
  }
  pay.disabled = false;
});

async function order() {
  const contents = selected().map((box) => box.value);
  const response = await call("/api/purchases", {
    method: "POST",
    body: { contents, card: form.elements.card.value },
    headers: { "Idempotency-Key": orderKey },
  });
  if (!response.ok) {
    // A declined order stays declined, so the next attempt needs a new key.
    if (response.status === 402) orderKey = newKey();
    showMessage(response.body.error ?? "The order failed.", "error");
    return;
  }
  showMessage("Waiting for Stripe to confirm the payment…", "warning");
  const status = await waitUntilSettled(response.body.purchases.map((purchase) => purchase.id));
  if (status === "completed") {
    form.reset();
    orderKey = newKey();
    updateTotal();
    updateCard();
    showMessage("Paid. Your items are in My purchases.", "success");
  } else if (status === "failed") {
    orderKey = newKey();
    showMessage("The card was declined. Nothing was charged.", "error");
  } else {
    showMessage("Stripe hasn't confirmed the payment yet. You can follow it in My purchases.", "warning");
  }
}

/** Wait for Stripe's event. @returns the status of the order: "pending" after a timeout */
async function waitUntilSettled(ids) {
  const deadline = Date.now() + CONFIRMATION_TIMEOUT_MS;
  while (Date.now() < deadline) {
    const { body } = await call("/api/purchases");
    const statuses = body.purchases.filter((each) => ids.includes(each.id)).map((each) => each.status);
    if (statuses.length > 0 && !statuses.includes("pending")) return statuses[0];
    await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
  }
  return "pending";
}

updateTotal();
updateCard();
