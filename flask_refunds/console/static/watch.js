// Following a refund that has not settled, until it has: often at first, then at leisure.

import { get, Refusal } from "./api.js";

const SECONDS = [1, 2, 3, 5, 8, 13, 20, 30];
const SETTLED = new Set(["succeeded", "failed", "canceled"]);
const followed = new Map();
const listeners = new Set();

export const isSettled = (refund) => SETTLED.has(refund.status);

/** Hear of every refund that was asked for or that changed. @returns {() => void} stops listening */
export function onRefund(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function tell(refund, before = null) {
  for (const listener of [...listeners]) listener(refund, before);
}

/** Look at a refund until it is settled; once is enough, however often this is called. */
export function follow(refund) {
  if (isSettled(refund) || followed.has(refund.id)) return;
  followed.set(refund.id, refund);
  lookAfter(refund.id, 0);
}

function lookAfter(id, tries) {
  setTimeout(() => look(id, tries), SECONDS[Math.min(tries, SECONDS.length - 1)] * 1000);
}

async function look(id, tries) {
  // Nobody looks: wait, and ask nothing.
  if (document.hidden) return document.addEventListener("visibilitychange", () => look(id, 0), { once: true });
  const before = followed.get(id);
  try {
    const { refund } = await get(`refunds/${encodeURIComponent(id)}`);
    followed.set(id, refund);
    if (refund.status !== before.status) tell(refund, before);
    if (isSettled(refund)) return followed.delete(id);
  } catch (error) {
    if (error instanceof Refusal && error.status < 500) return followed.delete(id);
  }
  return lookAfter(id, tries + 1);
}
