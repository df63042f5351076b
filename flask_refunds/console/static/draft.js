// The unsent form, kept while the admin signs in again.

const KEY = "flask_refunds.draft";

export function save(draft) {
  sessionStorage.setItem(KEY, JSON.stringify(draft));
}

export function clear() {
  sessionStorage.removeItem(KEY);
}

/**
 * @returns {{purchaseId: string, reason: string, note: string, amount: string|null, closes: boolean, email: string|null}
 *   |{refundId: string, action: string, comment: string}|null} of the refund dialog, or of a decision about a refund
 */
export function load() {
  return JSON.parse(sessionStorage.getItem(KEY) ?? "null");
}
