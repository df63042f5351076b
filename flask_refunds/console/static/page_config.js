// The app's settings that the server writes into the page. None of them is secret.

const { dataset } = document.documentElement;

export const isTest = dataset.mode === "test";
export const usesSession = dataset.session === "true";
export const loginUrl = dataset.loginUrl || null;

/** The header that contains a token: `Authorization: Bearer …`, unless your app's settings say otherwise. */
export function tokenHeader(token) {
  // Browsers can't send other characters, such as the "…" of a token that wasn't copied in full. The server then rejects it.
  const text = `${dataset.tokenType} ${token.replace(/[^\x21-\x7e]/g, "?")}`;
  return { [dataset.tokenHeader]: text.trim() };
}

/** The statuses by which purchases can be filtered. */
export const purchaseStatuses = JSON.parse(dataset.statuses);

export function dashboardUrl(paymentIntent) {
  return `https://dashboard.stripe.com/${isTest ? "test/" : ""}payments/${encodeURIComponent(paymentIntent)}`;
}

/** The purchase's page in your app, or `null`. */
export function orderUrl(purchaseId) {
  return dataset.orderUrl ? dataset.orderUrl.replaceAll("{id}", () => encodeURIComponent(purchaseId)) : null;
}
