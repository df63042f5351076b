// Calls to the JSON API. The page stands at …/admin/, so every path is relative to it.

import * as session from "./session.js";

const LOOK_MS = 30_000;
const ACT_MS = 60_000;

/** The server said no. */
export class Refusal extends Error {
  constructor(status, body, retryAfter) {
    super(body?.error ?? `The server answered ${status}.`);
    this.status = status;
    this.code = body?.code ?? null;
    this.refund = body?.refund ?? null;
    this.retryAfter = Number(retryAfter) || null;
  }
}

/** Nobody knows what the server said: the call may have been received. */
export class NoAnswer extends Error {}

export function get(path, params = {}, signal) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value));
  return call(query.size ? `${path}?${query}` : path, { signal: within(LOOK_MS, signal) });
}

/** @returns {Promise<{status: number, body: object}>} */
export async function askForRefund(purchaseId, ask) {
  const headers = { "Content-Type": "application/json" };
  const options = { method: "POST", headers, body: JSON.stringify(ask), signal: within(ACT_MS) };
  const response = await send(`refund/${purchaseId}`, options);
  return { status: response.status, body: await read(response) };
}

async function call(path, options) {
  return read(await send(path, options));
}

async function send(path, { headers = {}, ...options }) {
  const token = session.token();
  const authorization = token ? { Authorization: `Bearer ${token}` } : {};
  try {
    const response = await fetch(path, { ...options, headers: { ...headers, ...authorization }, cache: "no-store" });
    // Not if somebody has signed in again while this was under way.
    if (response.status === 401 && token === session.token()) session.end();
    return response;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new NoAnswer("No answer came.");
  }
}

async function read(response) {
  const body = await response.json().catch((error) => {
    if (error.name === "AbortError") throw error;
    return null;
  });
  if (response.ok && body) return body;
  // A page of a proxy's, or half an answer, says nothing of what the server did.
  if (!body?.code) throw new NoAnswer(`An answer came that is not the server's own (${response.status}).`);
  throw new Refusal(response.status, body, response.headers.get("Retry-After"));
}

function within(milliseconds, signal) {
  const timeout = AbortSignal.timeout(milliseconds);
  return signal ? AbortSignal.any([signal, timeout]) : timeout;
}
