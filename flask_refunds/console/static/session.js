// The admin's sign-in: your app's session, or a bearer token that this tab keeps in its sessionStorage.
// The token is never put into a URL.

import { usesSession } from "./page_config.js";

const KEY = "flask_refunds.token";

const listeners = new Set();
// The page can't see the session. It is assumed to exist until the server answers 401.
let hasSession = usesSession;
let hadAccess = Boolean(getToken());

export function getToken() {
  return sessionStorage.getItem(KEY);
}

export const isSignedIn = () => hasSession || Boolean(getToken());

/** Whether the admin was signed in before. */
export const wasSignedIn = () => hadAccess;

export function setToken(token) {
  sessionStorage.setItem(KEY, token);
  hadAccess = true;
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
  notify();
}

/** Note whether a request with this token, or without one, was authenticated. */
export function noteResponse(token, isAuthenticated) {
  hadAccess ||= isAuthenticated;
  // Keep a newer token that was set during this request.
  if (isAuthenticated || token !== getToken()) return;
  if (token) sessionStorage.removeItem(KEY);
  else hasSession = false;
  notify();
}

/** @returns {() => void} unsubscribe */
export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function notify() {
  for (const listener of [...listeners]) listener();
}
