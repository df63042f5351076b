// The admin's sign-in: your app's session, or a bearer token that this tab keeps in its sessionStorage.
// The token is never put into a URL.

import { usesSession } from "./page_config.js";

const KEY = "flask_refunds.token";

const listeners = new Set();
// The page can't see the session. It is assumed to exist until the server answers 401.
let hasSession = usesSession;
let hadAccess = Boolean(getToken());
let problem = null;

export function getToken() {
  return sessionStorage.getItem(KEY);
}

export const isSignedIn = () => hasSession || Boolean(getToken());

/** Whether the admin was signed in before. */
export const wasSignedIn = () => hadAccess;

/** Why the server didn't accept the last sign-in: "expired", "invalid", or `null`. */
export const signInProblem = () => problem;

export function setToken(token) {
  sessionStorage.setItem(KEY, token);
  hadAccess = true;
  problem = null;
  notify();
}

/** Try the session again: the admin may have signed in elsewhere. */
export function resume() {
  hasSession = usesSession;
  notify();
}

export function signOut() {
  sessionStorage.removeItem(KEY);
  hadAccess = false;
  problem = null;
  notify();
}

/** Note whether a request with this token, or without one, was authenticated. */
export function noteResponse(token, isAuthenticated) {
  hadAccess ||= isAuthenticated;
  // Keep a newer token that was set during this request.
  if (isAuthenticated || token !== getToken()) return;
  if (token) problem = isExpired(token) ? "expired" : "invalid";
  else problem = hadAccess ? "expired" : null;
  if (token) sessionStorage.removeItem(KEY);
  else hasSession = false;
  notify();
}

/** Whether a JWT says itself that its time is over. The server doesn't tell why it rejects one. */
function isExpired(token) {
  try {
    const claims = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    return claims.exp * 1000 <= Date.now();
  } catch {
    return false;
  }
}

/** @returns {() => void} unsubscribe */
export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function notify() {
  for (const listener of [...listeners]) listener();
}
