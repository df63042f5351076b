// The admin's bearer token, for as long as this tab is open. Never in a URL, never beyond sessionStorage.

export const KEY = "flask_refunds.token";

const listeners = new Set();

export const token = () => sessionStorage.getItem(KEY);

export function begin(value) {
  sessionStorage.setItem(KEY, value);
  tell();
}

export function end() {
  sessionStorage.removeItem(KEY);
  tell();
}

/** @returns {() => void} stops listening */
export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function tell() {
  for (const listener of [...listeners]) listener();
}
