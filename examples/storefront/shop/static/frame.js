// What every page has: who is signed in, and prices.

import { format } from "./money.js";
import * as session from "./session.js";

function showAccount() {
  const signedIn = session.current();
  const name = document.getElementById("account-name");
  name.textContent = signedIn?.user.name ?? "";
  name.hidden = !signedIn;
  document.getElementById("sign-in-link").hidden = Boolean(signedIn);
  document.getElementById("sign-out").hidden = !signedIn;
  document.getElementById("admin-link").hidden = signedIn?.user.role !== "admin";
}

document.getElementById("sign-out").addEventListener("click", () => {
  session.end();
  location.assign("/");
});

for (const price of document.querySelectorAll("[data-amount]")) {
  price.textContent = format(Number(price.dataset.amount), price.dataset.currency);
}
showAccount();
