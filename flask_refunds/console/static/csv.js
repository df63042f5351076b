// CSV (RFC 4180) that is safe to open in a spreadsheet, made in the browser from the API's answers.

import { get } from "./api.js";
import { plainAmount } from "./format.js";

const PAGE_LIMIT = 100;
export const MAX_ROWS = 10_000;

// Where a spreadsheet would begin a formula (https://owasp.org/www-community/attacks/CSV_Injection). In many countries
// Excel splits at semicolons instead of commas. It then ignores the quotes around a cell, and a new line is a new row.
const FORMULA = /(?<=^|[;\t\r\n]"*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])|^(?=[\t\r\n])/g;

/** A cell. What a spreadsheet would take as a formula gets a ' in front. */
function cell(value) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "string" ? value.replace(FORMULA, "'") : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** @param columns [[name, read(item, names)], …] */
export function toCsv(columns, items, names) {
  const rows = items.map((item) => columns.map(([, read]) => safely(read, item, names)));
  return [columns.map(([name]) => name), ...rows].map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}

/** One odd document leaves its cell empty. */
function safely(read, item, names) {
  try {
    return read(item, names);
  } catch {
    return null;
  }
}

/** An amount in the currency's major unit, as a number that a spreadsheet can add: "48.00". */
export const decimalAmount = (amount, currency) => (amount === null || amount === undefined || !currency ? null : plainAmount(amount, currency));

/**
 * Load all pages of a list, up to MAX_ROWS items.
 * @param onProgress called with the number of items so far
 */
export async function loadAll({ path, params, items, select }, signal, onProgress) {
  const found = { items: [], names: {} };
  let after;
  do {
    const page = await get(path, { ...params, after, limit: String(PAGE_LIMIT) }, signal);
    found.items.push(...page[items].map(select));
    Object.assign(found.names, page.names);
    after = page.nextCursor;
    onProgress(found.items.length);
  } while (after && found.items.length < MAX_ROWS);
  return found;
}

/** Let the browser save a file. The mark at its beginning tells spreadsheets that it is UTF-8. */
export function save(name, text) {
  const url = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  Object.assign(link, { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
