// Sends refund requests. Each purchase has at most one request in progress, however often the button is pressed.

import { ApiError, NoResponse, post, Rejected } from "./api.js";
import { notify, pollUntilSettled } from "./polling.js";

const inProgress = new Map();

export const isInProgress = (purchaseId) => inProgress.has(purchaseId);

/**
 * Refund a purchase, or resume its refund.
 * @returns {Promise<{status: number, fields: object, refund?: object, code?: string, message?: string, retryAfter?: number}>}
 *   `status` is 0 if there is no response; `code` is `rejected_elsewhere` if the response isn't the API's;
 *   `fields` are those that were sent, maybe by a dialog that was closed meanwhile: only an equal request resumes a part
 */
export function requestRefund(purchaseId, fields) {
  if (!isInProgress(purchaseId)) {
    inProgress.set(purchaseId, request(purchaseId, fields).finally(() => inProgress.delete(purchaseId)));
  }
  return inProgress.get(purchaseId);
}

async function request(purchaseId, fields) {
  const result = await post(`refund/${encodeURIComponent(purchaseId)}`, fields).catch(toResult);
  if (result.refund) {
    notify(result.refund);
    pollUntilSettled(result.refund);
  }
  return { ...result, fields };
}

function toResult(error) {
  if (error instanceof NoResponse) return { status: 0 };
  if (error instanceof Rejected) return { status: error.status, code: "rejected_elsewhere", message: error.message };
  if (!(error instanceof ApiError)) throw error;
  const { status, code, message, hint, refund, retryAfter } = error;
  return { status, code, message, hint, refund, retryAfter };
}
