// Asking for refunds. A purchase has at most one call under way, whoever presses what how often.

import { askForRefund, NoAnswer, Refusal } from "./api.js";
import { follow, tell } from "./watch.js";

const underWay = new Map();

export const isUnderWay = (purchaseId) => underWay.has(purchaseId);

/**
 * Refund a purchase, or go on with the refund that it has.
 * @returns {Promise<{status: number, code: string|null, refund: object|null, error: string|null, retryAfter: number|null}>}
 *   status 0: no answer came
 */
export function refund(purchaseId, ask) {
  if (!underWay.has(purchaseId)) {
    const call = make(purchaseId, ask).finally(() => underWay.delete(purchaseId));
    underWay.set(purchaseId, call);
  }
  return underWay.get(purchaseId);
}

async function make(purchaseId, ask) {
  const outcome = await asking(purchaseId, ask);
  if (outcome.refund) {
    tell(outcome.refund);
    follow(outcome.refund);
  }
  return outcome;
}

async function asking(purchaseId, ask) {
  const nothing = { status: 0, code: null, refund: null, error: null, retryAfter: null };
  try {
    const { status, body } = await askForRefund(purchaseId, ask);
    return { ...nothing, status, refund: body.refund };
  } catch (error) {
    if (error instanceof NoAnswer) return nothing;
    if (!(error instanceof Refusal)) throw error;
    const { status, code, refund: found, message, retryAfter } = error;
    return { status, code, refund: found, error: message, retryAfter };
  }
}
