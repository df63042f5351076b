// Polls refunds until they settle: after 1 second at first, later every 30 seconds.

import { ApiError, get } from "./api.js";
import * as session from "./session.js";

const DELAYS_SECONDS = [1, 2, 3, 5, 8, 13, 20, 30];
const SETTLED = new Set(["succeeded", "failed", "canceled"]);
const polled = new Map();
const listeners = new Set();

export const isSettled = (refund) => SETTLED.has(refund.status);

/** Call a listener for each refund that is requested or changes. @returns {() => void} unsubscribe */
export function onRefundChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function notify(refund, previous = null) {
  for (const listener of [...listeners]) listener(refund, previous);
}

/** Poll a refund until it settles. Further calls for the same refund have no effect. */
export function pollUntilSettled(refund) {
  if (isSettled(refund) || polled.has(refund.id)) return;
  polled.set(refund.id, refund);
  schedule(refund.id, 0);
}

function schedule(id, attempt) {
  setTimeout(() => poll(id, attempt), DELAYS_SECONDS[Math.min(attempt, DELAYS_SECONDS.length - 1)] * 1000);
}

async function poll(id, attempt) {
  // Don't send requests from a hidden tab.
  if (document.hidden) return document.addEventListener("visibilitychange", () => poll(id, 0), { once: true });
  if (!session.isSignedIn()) return pollAfterSignIn(id);
  const previous = polled.get(id);
  try {
    const { refund } = await get(`refunds/${encodeURIComponent(id)}`);
    polled.set(id, refund);
    if (refund.status !== previous.status) notify(refund, previous);
    if (isSettled(refund)) return polled.delete(id);
  } catch (error) {
    if (error instanceof ApiError && error.status < 500 && error.status !== 401) return polled.delete(id);
  }
  return schedule(id, attempt + 1);
}

function pollAfterSignIn(id) {
  const unsubscribe = session.onChange(() => {
    unsubscribe();
    poll(id, 0);
  });
}
