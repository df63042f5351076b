// The layout that all pages share: the account in the header, and prices.

import { format } from "./money.js";
import * as session from "./session.js";

function showAccount() {
  const current = session.current();
  const name = document.getElementById("account-name");
  name.textContent = current?.user.name ?? "";
  name.hidden = !current;
  document.getElementById("sign-in-link").hidden = Boolean(current);
  document.getElementById("sign-out").hidden = !current;
  document.getElementById("admin-link").hidden = current?.user.role !== "admin";
}

document.getElementById("sign-out").addEventListener("click", () => {
  session.end();
  location.assign("/");
});

for (const price of document.querySelectorAll("[data-amount]")) {
  price.textContent = format(Number(price.dataset.amount), price.dataset.currency);
}
showAccount();
