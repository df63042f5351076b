// Client of the JSON API. The page is served at …/admin/, and all paths are relative to it.

import { tokenHeader, usesSession } from "./page_config.js";
import * as session from "./session.js";

const READ_TIMEOUT_MS = 30_000;
const REFUND_TIMEOUT_MS = 60_000;
const REQUEST_TIMEOUT = 408;

/** The API returned an error. */
export class ApiError extends Error {
  constructor(status, { error, code, hint, refund = null }, retryAfter) {
    super(error ?? `The server returned status ${status}.`);
    Object.assign(this, { status, code, hint, refund, retryAfter: Number(retryAfter) || null });
  }
}

/** There is no usable response. The server may have processed the request. */
export class NoResponse extends Error {}

/** Your app or a proxy answered in place of the API, such as an extension that checks CSRF tokens. */
export class Rejected extends Error {
  constructor(status, isRedirect) {
    super(`Your app or a proxy ${isRedirect ? "redirected this request" : `rejected this request with status ${status}`}.`);
    this.status = status;
  }
}

export async function get(path, params = {}, signal) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value));
  return read(await send(query.size ? `${path}?${query}` : path, { signal: withTimeout(READ_TIMEOUT_MS, signal) }));
}

/** @returns {Promise<{status: number, refund: object}>} */
export async function post(path, fields) {
  const headers = { "Content-Type": "application/json" };
  const options = { method: "POST", headers, body: JSON.stringify(fields), signal: withTimeout(REFUND_TIMEOUT_MS) };
  const response = await send(path, options);
  const { refund, hint } = await read(response);
  return { status: response.status, refund, hint };
}

async function send(path, options) {
  const token = session.getToken();
  const authorization = token ? tokenHeader(token) : {};
  try {
    const response = await fetch(path, { ...options, headers: { ...options.headers, ...authorization }, cache: "no-store" });
    session.noteResponse(token, response.status !== 401 && !response.redirected);
    return token && usesSession && response.status === 401 ? send(path, options) : response;
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
  if (body?.code) throw new ApiError(response.status, body, response.headers.get("Retry-After"));
  // The API never redirects. An app's sign-in does, for users who aren't signed in.
  if (response.redirected) throw new Rejected(401, true);
  if (response.status >= 400 && response.status < 500 && response.status !== REQUEST_TIMEOUT) throw new Rejected(response.status, false);
  // A proxy's error page or a truncated body doesn't tell what the server did.
  throw new NoResponse();
}

function withTimeout(milliseconds, signal) {
  const timeout = AbortSignal.timeout(milliseconds);
  return signal ? AbortSignal.any([signal, timeout]) : timeout;
}
