// The sign-in form.

import { call } from "./api.js";
import * as session from "./session.js";

const form = document.getElementById("sign-in");
const message = document.getElementById("message");

function nextPath() {
  // Only redirect within this site: "//example.com" and "https://example.com" are other sites.
  const next = new URL(new URLSearchParams(location.search).get("next") ?? "/", location.origin);
  return next.origin === location.origin ? next.pathname + next.search + next.hash : "/";
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  message.textContent = "";
  const { email, password } = Object.fromEntries(new FormData(form));
  session.end();
  try {
    const response = await call("/api/sign-in", { method: "POST", body: { email, password } });
    if (response.ok) {
      session.start(response.body);
      location.assign(nextPath());
    } else {
      message.textContent = response.body.error ?? "Sign-in failed.";
    }
  } catch {
    message.textContent = "The shop isn't responding.";
  }
  message.dataset.severity = "error";
});

for (const account of document.querySelectorAll(".account-card")) {
  account.addEventListener("click", () => {
    form.elements.email.value = account.dataset.email;
    form.elements.password.value = account.dataset.password;
    form.requestSubmit();
  });
}

// The buttons are disabled until now: without this script, the form would put the password into the URL.
for (const button of document.querySelectorAll(".narrow button")) {
  button.disabled = false;
}
