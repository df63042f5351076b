// Formats amounts, times and numbers in the browser's locale.

// https://docs.stripe.com/currencies#zero-decimal. Intl has other decimals for UGX and ISK: none, where Stripe has two.
const ZERO_DECIMAL = new Set([
  "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf",
]);
const THREE_DECIMAL = new Set(["bhd", "jod", "kwd", "omr", "tnd"]);
const WITHOUT_FRACTIONS = new Set(["isk", "ugx"]);

function decimals(currency) {
  if (ZERO_DECIMAL.has(currency)) return 0;
  return THREE_DECIMAL.has(currency) ? 3 : 2;
}

/** `money(4800, "usd")` is "$48.00" in an American locale and "48,00 $" in a German one. */
export function money(amount, currency) {
  if (!Number.isFinite(amount) || !/^[a-z]{3}$/i.test(currency)) return "—";
  const digits = decimals(currency.toLowerCase());
  const options = { style: "currency", currency, minimumFractionDigits: digits, maximumFractionDigits: digits };
  return new Intl.NumberFormat(undefined, options).format(amount / 10 ** digits);
}

/** `storedMoney("48.00 USD")` is "$48.00", with the decimals of the text. Other text stays as it is. */
export function storedMoney(text) {
  const [, amount, decimals = "", currency] = /^(-?\d{1,15}(?:\.(\d{1,6}))?) ([A-Z]{3})$/.exec(text) ?? [];
  if (!currency) return text;
  const digits = { minimumFractionDigits: decimals.length, maximumFractionDigits: decimals.length };
  return new Intl.NumberFormat(undefined, { style: "currency", currency, ...digits }).format(amount);
}

/** `plainAmount(4800, "usd")` is "48.00", for an input. */
export function plainAmount(amount, currency) {
  const digits = decimals(currency.toLowerCase());
  return (amount / 10 ** digits).toFixed(digits);
}

/** What Stripe's amounts in this currency are multiples of, in minor units. */
export function smallestAmount(currency) {
  if (WITHOUT_FRACTIONS.has(currency)) return 100;
  return THREE_DECIMAL.has(currency) ? 10 : 1;
}

/** The minor units of an input such as "5", "5.00" or "5,00"; `null` if it isn't a positive amount in this currency. */
export function parseAmount(text, currency) {
  const code = currency.toLowerCase();
  const digits = decimals(code);
  const [, whole, fraction = ""] = /^(\d{1,12})(?:[.,](\d{1,3}))?$/.exec(text.trim()) ?? [];
  const amount = Number(`${whole}${fraction.padEnd(digits, "0")}`);
  return amount > 0 && fraction.length <= digits && amount % smallestAmount(code) === 0 ? amount : null;
}

const numbers = new Intl.NumberFormat();
const percents = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1 });
const dateTimes = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const months = new Intl.DateTimeFormat(undefined, { month: "short", year: "numeric", timeZone: "UTC" });
const shortMonths = new Intl.DateTimeFormat(undefined, { month: "short", timeZone: "UTC" });
const relativeTimes = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

export const number = (value) => numbers.format(value);
export const percent = (value) => (value === null || value === undefined ? "—" : percents.format(value));
/** Whether a document's time is one that JavaScript knows. */
export const isTime = (iso) => !Number.isNaN(Date.parse(iso));
export const dateTime = (iso) => (isTime(iso) ? dateTimes.format(new Date(iso)) : "—");
const firstDay = (month) => new Date(`${month}-01T00:00:00Z`);
/** `month("2024-03")` is "Mar 2024", and `shortMonth` is "Mar". */
export const month = (text) => months.format(firstDay(text));
export const shortMonth = (text) => shortMonths.format(firstDay(text));

const UNITS = [["day", 86_400], ["hour", 3600], ["minute", 60]];

/** A time relative to now: "3 days ago". */
export function relativeTime(iso) {
  const seconds = (new Date(iso) - Date.now()) / 1000;
  const [unit, size] = UNITS.find(([, least]) => Math.abs(seconds) >= least) ?? ["second", 1];
  return relativeTimes.format(Math.round(seconds / size), unit);
}

/** A number of seconds: "under 1 sec", "3 min", "2 days". */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "—";
  if (seconds < 1) return `under ${duration(1)}`;
  const [unit, size] = UNITS.find(([, least]) => seconds >= least) ?? ["second", 1];
  const options = { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: seconds < 10 ? 1 : 0 };
  return new Intl.NumberFormat(undefined, options).format(seconds / size);
}

/** The API's `from` for a day in the browser's time zone: its first midnight. */
export function startOfDay(day) {
  const start = new Date(`${day}T00:00`);
  return toIso(start) ?? day;
}

/** The API's `to` for a day in the browser's time zone: the next midnight. */
export function endOfDay(day) {
  const next = new Date(`${day}T00:00`);
  next.setDate(next.getDate() + 1);
  return toIso(next) ?? day;
}

/** A day that isn't one, such as that of a link that was cut, has no time: the API then says what is wrong. */
const toIso = (time) => (Number.isNaN(time.getTime()) ? null : time.toISOString());
