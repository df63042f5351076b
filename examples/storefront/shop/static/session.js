// Who is signed in, for as long as this tab is open.

const KEY = "fern-and-field";

export function current() {
  const stored = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
  return stored && new Date(stored.expiresAt) > new Date() ? stored : null;
}

export function begin(signedIn) {
  sessionStorage.setItem(KEY, JSON.stringify(signedIn));
}

export function end() {
  sessionStorage.removeItem(KEY);
}

export function askToSignIn() {
  const here = location.pathname + location.search;
  location.assign(`/sign-in?next=${encodeURIComponent(here)}`);
}
