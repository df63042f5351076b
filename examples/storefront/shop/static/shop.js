// Choosing and paying.

import { call, newKey } from "./api.js";
import { format } from "./money.js";
import * as session from "./session.js";

const form = document.getElementById("checkout");
const total = document.getElementById("total");
const pay = document.getElementById("pay");
const outcome = document.getElementById("outcome");

const EVENT_WITHIN_MS = 15000;
const LOOK_AGAIN_MS = 300;

let orderKey = newKey();

function chosen() {
  return [...form.querySelectorAll("input[name=content]:checked")];
}

function tell(text, mood = "") {
  outcome.textContent = text;
  outcome.dataset.mood = mood;
}

function showTotal() {
  const boxes = chosen();
  const currencies = new Set(boxes.map((box) => box.dataset.priceCurrency));
  const sum = boxes.reduce((amount, box) => amount + Number(box.dataset.price), 0);
  if (boxes.length === 0) total.textContent = "Nothing chosen yet.";
  else if (currencies.size > 1) total.textContent = "One payment has one currency: pay for these separately.";
  else total.textContent = `${boxes.length === 1 ? "1 item" : `${boxes.length} items`} · ${format(sum, [...currencies][0])}`;
  pay.disabled = boxes.length === 0 || currencies.size > 1;
  pay.textContent = session.current() ? "Pay" : "Sign in to pay";
}

function showCard() {
  document.getElementById("card-outcome").textContent = form.elements.card.selectedOptions[0].dataset.outcome;
}

// A changed order is another order; the same one sent twice is charged once.
form.addEventListener("change", () => {
  orderKey = newKey();
  tell("");
  showTotal();
  showCard();
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!session.current()) {
    session.askToSignIn();
    return;
  }
  pay.disabled = true;
  tell("Paying…", "waiting");
  try {
    await order();
  } catch {
    tell("The shop does not answer. Paying again is safe: this order is charged once.", "bad");
  }
  pay.disabled = false;
});

async function order() {
  const contents = chosen().map((box) => box.value);
  const answer = await call("/api/purchases", {
    method: "POST",
    body: { contents, card: form.elements.card.value },
    headers: { "Idempotency-Key": orderKey },
  });
  if (!answer.ok) {
    // A declined order stays declined: the next try is another.
    if (answer.status === 402) orderKey = newKey();
    tell(answer.body.error ?? "The order failed.", "bad");
    return;
  }
  tell("Waiting for Stripe to confirm the payment…", "waiting");
  const status = await settled(answer.body.purchases.map((purchase) => purchase.id));
  if (status === "completed") {
    form.reset();
    orderKey = newKey();
    showTotal();
    showCard();
    tell("Paid. It is yours now: see My purchases.", "good");
  } else if (status === "failed") {
    orderKey = newKey();
    tell("The card was declined. Nothing was charged.", "bad");
  } else {
    tell("Stripe has not confirmed the payment yet. It stays pending until it does: see My purchases.", "waiting");
  }
}

/** The status of an order once Stripe's event came, or "pending" when patience ends. */
async function settled(ids) {
  const deadline = Date.now() + EVENT_WITHIN_MS;
  while (Date.now() < deadline) {
    const { body } = await call("/api/purchases");
    const statuses = body.purchases.filter((each) => ids.includes(each.id)).map((each) => each.status);
    if (statuses.length > 0 && !statuses.includes("pending")) return statuses[0];
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
  }
  return "pending";
}

showTotal();
showCard();
