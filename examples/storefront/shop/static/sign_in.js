import { call } from "./api.js";
import * as session from "./session.js";

const form = document.getElementById("sign-in");
const outcome = document.getElementById("outcome");

function whereTo() {
  // Only a page of ours: "//elsewhere" and "https://elsewhere" are not.
  const next = new URL(new URLSearchParams(location.search).get("next") ?? "/", location.origin);
  return next.origin === location.origin ? next.pathname + next.search + next.hash : "/";
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  outcome.textContent = "";
  const { email, password } = Object.fromEntries(new FormData(form));
  session.end();
  try {
    const answer = await call("/api/sign-in", { method: "POST", body: { email, password } });
    if (answer.ok) {
      session.begin(answer.body);
      location.assign(whereTo());
    } else {
      outcome.textContent = answer.body.error ?? "Signing in failed.";
    }
  } catch {
    outcome.textContent = "The shop does not answer.";
  }
  outcome.dataset.mood = "bad";
});

for (const account of document.querySelectorAll(".account-card")) {
  account.addEventListener("click", () => {
    form.elements.email.value = account.dataset.email;
    form.elements.password.value = account.dataset.password;
    form.requestSubmit();
  });
}

// Before this script ran a click would do nothing, or put the password into the address.
for (const button of document.querySelectorAll(".narrow button")) {
  button.disabled = false;
}
