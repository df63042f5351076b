// What the server wrote into the page about this app. None of it is secret.

const { dataset } = document.documentElement;

export const isTest = dataset.mode === "test";
export const loginUrl = dataset.loginUrl || null;

const path = dataset.paymentIntentField.split(".");

/** The payment intent of a purchase, in whichever field the host keeps it. */
export function paymentOf(purchase) {
  const value = path.reduce((found, name) => found?.[name], purchase);
  return typeof value === "string" && value.startsWith("pi_") ? value : null;
}

export function dashboardUrl(paymentIntent) {
  return `https://dashboard.stripe.com/${isTest ? "test/" : ""}payments/${encodeURIComponent(paymentIntent)}`;
}
