// The admin's bearer token. It is kept in this tab's sessionStorage and never put into a URL.

const KEY = "flask_refunds.token";

const listeners = new Set();

export const getToken = () => sessionStorage.getItem(KEY);

export function setToken(token) {
  sessionStorage.setItem(KEY, token);
  notify();
}

export function clearToken() {
  sessionStorage.removeItem(KEY);
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
