// The signed-in user, for as long as this tab is open.

const KEY = "fern-and-field";
// The admin page of flask_refunds reads its token from here.
const ADMIN_PAGE_KEY = "flask_refunds.token";

/** @returns {{token: string, expiresAt: string, user: object}|null} */
export function current() {
  const stored = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
  return stored && new Date(stored.expiresAt) > new Date() ? stored : null;
}

export function start(session) {
  sessionStorage.setItem(KEY, JSON.stringify(session));
  sessionStorage.setItem(ADMIN_PAGE_KEY, session.token);
}

export function end() {
  sessionStorage.removeItem(KEY);
  sessionStorage.removeItem(ADMIN_PAGE_KEY);
}

export function redirectToSignIn() {
  const here = location.pathname + location.search;
  location.assign(`/sign-in?next=${encodeURIComponent(here)}`);
}
