// Formats Stripe's amounts, which are in minor units.

// https://docs.stripe.com/currencies#zero-decimal. Intl has other decimals for RSD and ISK: none, where Stripe has two.
const ZERO_DECIMAL = new Set([
  "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf",
]);
const THREE_DECIMAL = new Set(["bhd", "jod", "kwd", "omr", "tnd"]);

function decimals(currency) {
  if (ZERO_DECIMAL.has(currency)) return 0;
  return THREE_DECIMAL.has(currency) ? 3 : 2;
}

/** `format(4800, "usd")` is "$48.00" in an American locale and "48,00 $" in a German one. */
export function format(amount, currency) {
  const digits = decimals(currency.toLowerCase());
  return new Intl.NumberFormat(undefined, {
    style: "currency",
    currency: currency.toUpperCase(),
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  }).format(amount / 10 ** digits);
}
