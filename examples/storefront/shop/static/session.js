// Who is signed in, for as long as this tab is open.

const KEY = "fern-and-field";
// Where the refunds page of flask_refunds looks for its token.
const CONSOLE_KEY = "flask_refunds.token";

export function current() {
  const stored = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
  return stored && new Date(stored.expiresAt) > new Date() ? stored : null;
}

export function begin(signedIn) {
  sessionStorage.setItem(KEY, JSON.stringify(signedIn));
  sessionStorage.setItem(CONSOLE_KEY, signedIn.token);
}

export function end() {
  sessionStorage.removeItem(KEY);
  sessionStorage.removeItem(CONSOLE_KEY);
}

export function askToSignIn() {
  const here = location.pathname + location.search;
  location.assign(`/sign-in?next=${encodeURIComponent(here)}`);
}
