// Money, times and numbers, as the viewer's own locale writes them.

// https://docs.stripe.com/currencies#zero-decimal. Not Intl's own digits: those follow how a currency is used
// (UGX and ISK without decimals), and Stripe counts both in hundredths.
const ZERO_DECIMAL = new Set([
  "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf",
]);
const THREE_DECIMAL = new Set(["bhd", "jod", "kwd", "omr", "tnd"]);

function decimals(currency) {
  if (ZERO_DECIMAL.has(currency)) return 0;
  return THREE_DECIMAL.has(currency) ? 3 : 2;
}

/** `money(4800, "usd")` is "$48.00" to an American and "48,00 $" to a German. */
export function money(amount, currency) {
  if (amount === null || amount === undefined || !currency) return "—";
  const digits = decimals(currency.toLowerCase());
  const options = { style: "currency", currency, minimumFractionDigits: digits, maximumFractionDigits: digits };
  return new Intl.NumberFormat(undefined, options).format(amount / 10 ** digits);
}

const numbers = new Intl.NumberFormat();
const shares = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1 });
const moments = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const months = new Intl.DateTimeFormat(undefined, { month: "short", year: "numeric", timeZone: "UTC" });
const shortMonths = new Intl.DateTimeFormat(undefined, { month: "short", timeZone: "UTC" });
const distances = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

export const number = (value) => numbers.format(value);
export const share = (value) => (value === null || value === undefined ? "—" : shares.format(value));
export const moment = (iso) => (iso ? moments.format(new Date(iso)) : "—");
const firstOf = (text) => new Date(`${text}-01T00:00:00Z`);
/** `month("2024-03")` is "Mar 2024", `shortMonth` "Mar" */
export const month = (text) => months.format(firstOf(text));
export const shortMonth = (text) => shortMonths.format(firstOf(text));

const UNITS = [["day", 86_400], ["hour", 3600], ["minute", 60]];

/** "3 days ago" */
export function distance(iso) {
  const seconds = (new Date(iso) - Date.now()) / 1000;
  const [unit, size] = UNITS.find(([, least]) => Math.abs(seconds) >= least) ?? ["second", 1];
  return distances.format(Math.round(seconds / size), unit);
}

/** Seconds as people say them: "0.4 s", "3 min", "2 days". */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "—";
  const [unit, size] = UNITS.find(([, least]) => seconds >= least) ?? ["second", 1];
  const options = { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: seconds < 10 ? 1 : 0 };
  return new Intl.NumberFormat(undefined, options).format(seconds / size);
}

/** When a purchase was made: its id says so, whatever else a host stores. */
export function madeAt(objectId) {
  return new Date(Number.parseInt(objectId.slice(0, 8), 16) * 1000).toISOString();
}

/** A viewer's own day, as the API's `from`: his midnight. */
export function startOfDay(day) {
  return day && new Date(`${day}T00:00`).toISOString();
}

/** As the API's `to`: the midnight after it. */
export function endOfDay(day) {
  if (!day) return day;
  const next = new Date(`${day}T00:00`);
  next.setDate(next.getDate() + 1);
  return next.toISOString();
}
