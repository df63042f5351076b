// What was written for a refund that is not asked for yet, kept while its writer signs in again.

const KEY = "flask_refunds.draft";

export function keep(draft) {
  sessionStorage.setItem(KEY, JSON.stringify(draft));
}

export function forget() {
  sessionStorage.removeItem(KEY);
}

/** @returns {{purchaseId: string, reason: string, note: string}|null} */
export function find() {
  return JSON.parse(sessionStorage.getItem(KEY) ?? "null");
}
