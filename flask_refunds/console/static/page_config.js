// The app's settings that the server writes into the page. None of them is secret.

const { dataset } = document.documentElement;

export const isTest = dataset.mode === "test";
export const usesSession = dataset.session === "true";
export const loginUrl = dataset.loginUrl || null;

/** The header that contains a token: `Authorization: Bearer …`, unless your app's settings say otherwise. */
export function tokenHeader(token) {
  return { [dataset.tokenHeader]: `${dataset.tokenType} ${token}`.trim() };
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
