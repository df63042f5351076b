// API calls to the shop and to flask_refunds. Both accept the same token.

import * as session from "./session.js";

/**
 * Send a request.
 * @returns {Promise<{ok: boolean, status: number, body: object, retryAfter: string|null}>}
 * @throws {TypeError} if there is no response. The server may have received the request.
 */
export async function call(path, { method = "GET", body, headers = {} } = {}) {
  const signedIn = session.current();
  if (signedIn) headers = { ...headers, Authorization: `Bearer ${signedIn.token}` };
  if (body !== undefined) headers = { ...headers, "Content-Type": "application/json" };
  const response = await fetch(path, {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (response.status === 401 && signedIn) {
    session.end();
    session.redirectToSignIn();
  }
  return {
    ok: response.ok,
    status: response.status,
    body: await response.json().catch(() => ({})),
    retryAfter: response.headers.get("Retry-After"),
  };
}

/** Make a random key. `crypto.randomUUID` isn't available over plain HTTP, except on localhost. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
