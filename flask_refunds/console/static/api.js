// Client of the JSON API. The page is served at …/admin/, and all paths are relative to it.

import { tokenHeader } from "./page_config.js";
import * as session from "./session.js";

const READ_TIMEOUT_MS = 30_000;
const REFUND_TIMEOUT_MS = 60_000;

/** The API returned an error. */
export class ApiError extends Error {
  constructor(status, { error, code, refund = null }, retryAfter) {
    super(error ?? `The server returned status ${status}.`);
    Object.assign(this, { status, code, refund, retryAfter: Number(retryAfter) || null });
  }
}

/** There is no usable response. The server may have processed the request. */
export class NoResponse extends Error {}

export async function get(path, params = {}, signal) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value));
  return read(await send(query.size ? `${path}?${query}` : path, { signal: withTimeout(READ_TIMEOUT_MS, signal) }));
}

/** @returns {Promise<{status: number, refund: object}>} */
export async function postRefund(purchaseId, fields) {
  const headers = { "Content-Type": "application/json" };
  const options = { method: "POST", headers, body: JSON.stringify(fields), signal: withTimeout(REFUND_TIMEOUT_MS) };
  const response = await send(`refund/${encodeURIComponent(purchaseId)}`, options);
  return { status: response.status, refund: (await read(response)).refund };
}

async function send(path, { headers = {}, ...options }) {
  const token = session.getToken();
  const authorization = token ? tokenHeader(token) : {};
  try {
    const response = await fetch(path, { ...options, headers: { ...headers, ...authorization }, cache: "no-store" });
    // Keep a newer token that was set during this request.
    if (response.status === 401 && token === session.getToken()) session.clearToken();
    return response;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new NoResponse();
  }
}

async function read(response) {
  const body = await response.json().catch((error) => {
    if (error.name === "AbortError") throw error;
    return null;
  });
  if (response.ok && body) return body;
  // A proxy's error page or a truncated body doesn't tell what the server did.
  if (!body?.code) throw new NoResponse();
  throw new ApiError(response.status, body, response.headers.get("Retry-After"));
}

function withTimeout(milliseconds, signal) {
  const timeout = AbortSignal.timeout(milliseconds);
  return signal ? AbortSignal.any([signal, timeout]) : timeout;
}
