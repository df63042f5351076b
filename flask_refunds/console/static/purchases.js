// The purchases view: all purchases, filtered by customer, payment, status or date.

import { get } from "./api.js";
import { Customer, PurchaseAmount, PurchaseLink, purchaseTitle, Status, Table, Time } from "./components.js";
import { CustomerSearch, DateRange, Filters, SearchHint, SelectField, toSearch } from "./filters.js";
import { endOfDay, startOfDay } from "./format.js";
import { STATUS } from "./messages.js";
import { purchaseStatuses } from "./page_config.js";
import { PagedList } from "./paged_list.js";
import { returnsAll } from "./partial.js";
import { isSettled } from "./polling.js";
import { href, setParam } from "./router.js";
import { html } from "./ui.js";

const STATUSES = [["", "Any status"], ...purchaseStatuses.map((each) => [each, each[0].toUpperCase() + each.slice(1)])];

export function Purchases({ params, openRefundDialog }) {
  const { q, status, from, to } = params;
  const query = { ...toSearch(q), status, from: startOfDay(from), to: endOfDay(to) };
  return html`<h1 tabindex="-1">Purchases</h1>
    <${Filters}>
      <${CustomerSearch} value=${q} />
      <${SelectField} label="Status" options=${STATUSES} value=${status} onSelect=${setParam("status")} />
      <${DateRange} params=${params} />
    <//>
    <${PagedList} path="all" items="purchases" total="totalPurchases" noun="purchase" params=${query} select=${(each) => each._refunds} update=${applyRefund} reload=${reload} csv=${CSV}
      empty=${html`<p>No purchases match.</p><${SearchHint} />`}>
      ${(items, isLoading) => html`<${Table} caption="Purchases, newest first" columns=${columns(openRefundDialog)} items=${items} keyOf=${(each) => each?.id} isLoading=${isLoading} />`}
    <//>`;
}

/** "19.50 EUR" is an amount and a currency; a shop that stores no currency has only the amount. */
const amountPart = (position) => ({ amountText }) => amountText?.split(" ")[position];

const CSV = [
  ["id", (each) => each.id],
  ["payment", (each) => each.payment],
  ["status", (each) => each.status],
  ["amount", amountPart(0)],
  ["currency", amountPart(1)],
  ["item", (each) => each.content?.title],
  ["customer", (each) => each.user?.name ?? each.user?.id],
  ["email", (each) => each.user?.email],
  ["createdAt", (each) => each.createdAt],
  ["refundStatus", (each) => each.refundStatus],
];

/** The purchases of a refund's payment as they are now: with what parts returned, and with other refunds that are open. */
const reload = async ({ paymentIntent }) => (await get("all", { paymentIntent, limit: "100" })).purchases.map((each) => each._refunds);

/** The purchase after a change of a refund, with the status of an unsettled refund as `refundStatus`. */
function applyRefund(purchase, refund) {
  if (!refund.purchaseIds.includes(purchase?.id)) return purchase;
  if (isSettled(refund) && !returnsAll(refund)) return { ...purchase, refundStatus: null };
  if (refund.status === "succeeded") return { ...purchase, status: "refunded", refundable: false, refundStatus: null };
  if (isSettled(refund)) return { ...purchase, status: "completed", refundable: Boolean(purchase.payment), refundStatus: null };
  return { ...purchase, refundStatus: refund.status };
}

export const columns = (openRefundDialog) => [
  ["Item", (each) => html`<${PurchaseLink} purchase=${each} />`],
  ["Customer", (each) => html`<${Customer} purchase=${each} />`],
  ["Amount", (each) => html`<${PurchaseAmount} purchase=${each} />`, "number"],
  ["Date", (each) => html`<${Time} iso=${each.createdAt} />`, "muted"],
  ["Status", (each) => html`<${Status} status=${each.status} />${each.refundStatus && !isUnderWay(each) && html` <small class="warning-text">refund ${STATUS[each.refundStatus]}</small>`}`],
  ["Refund", (each) => html`<${RefundButton} purchase=${each} openRefundDialog=${openRefundDialog} />`, "action"],
];

/** Whether a refund is open and takes all that is left. With partial refunds, something may be left beside it. */
const isOpen = ({ refundable, refundStatus, refundedAmount }) => refundable && refundStatus && refundedAmount === undefined;
/** Whether Stripe accepted it, so that there is nothing to do but wait. */
const isUnderWay = (purchase) => isOpen(purchase) && purchase.refundStatus !== "processing";

function RefundButton({ purchase, openRefundDialog }) {
  if (!purchase.refundable) return null;
  if (isUnderWay(purchase)) return html`<a class="warning-text" href=${href("payment", purchase.payment)}>Refund ${STATUS[purchase.refundStatus]}</a>`;
  const text = isOpen(purchase) ? "Check refund" : "Refund";
  const label = `${text}: ${purchaseTitle(purchase)}${purchase.user?.name ? `, ${purchase.user.name}` : ""}`;
  return html`<button type="button" class="secondary small" aria-label=${label} aria-haspopup="dialog" onClick=${() => openRefundDialog(purchase.id)}>${text}…</button>`;
}
