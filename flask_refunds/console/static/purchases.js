// Every purchase, found by customer, payment, status or date.

import { paymentOf } from "./facts.js";
import { endOfDay, madeAt, startOfDay } from "./format.js";
import { Listing } from "./listing.js";
import { Customer, Status, Stored, Table, Time, Title, titleOf } from "./parts.js";
import { replaceParams } from "./router.js";
import { DateRange, Search, Select } from "./search.js";
import { html } from "./ui.js";

const STATUSES = [["", "Any status"], ["completed", "Completed"], ["refunded", "Refunded"], ["pending", "Pending"], ["failed", "Failed"]];

/** What somebody typed, as the API asks for it. */
function query({ q = "", status, from, to }) {
  const text = q.trim();
  const named = text.startsWith("pi_") ? { paymentIntent: text } : { user: text };
  return { ...named, status, from: startOfDay(from), to: endOfDay(to) };
}

export function Purchases({ params, refund }) {
  return html`<h1 tabindex="-1">Purchases</h1>
    <form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
      <${Search} label="Customer or payment" value=${params.q} placeholder="E-mail, customer id or pi_…"
        onSearch=${(q) => replaceParams({ ...params, q })} />
      <${Select} label="Status" options=${STATUSES} value=${params.status} onChoose=${(status) => replaceParams({ ...params, status })} />
      <${DateRange} params=${params} />
    </form>
    <${Listing} path="all" kind="purchases" total="totalPurchases" params=${query(params)} update=${follow}
      noun=${(count) => (count === 1 ? "purchase" : "purchases")}
      empty=${html`<p>No purchase fits.</p><p class="soft">An e-mail address must be written as the shop has it.</p>`}>
      ${(items, busy) => html`<${Table} caption="Purchases, newest first" columns=${columns(refund)} items=${items} keyOf=${(each) => each._id} busy=${busy} />`}
    <//>`;
}

/** A purchase after news of a refund of its payment. */
export function follow(purchase, refund) {
  if (!refund.purchaseIds.includes(purchase._id)) return purchase;
  if (refund.status === "succeeded") return { ...purchase, status: "refunded", open: null };
  const open = refund.status === "failed" || refund.status === "canceled" ? null : refund.status;
  return { ...purchase, status: open ? purchase.status : "completed", open };
}

export const columns = (refund) => [
  ["Bought", (each) => html`<${Title} purchase=${each} />`],
  ["Customer", (each) => html`<${Customer} purchase=${each} />`],
  ["Amount", (each) => html`<${Stored} purchase=${each} />`, "number"],
  ["Date", (each) => html`<${Time} iso=${each.createdAt ?? madeAt(each._id)} />`, "soft"],
  ["Status", (each) => html`<${Status} status=${each.status} />${each.open && html` <small class="waiting-text">refund ${each.open === "processing" ? "sent" : "pending"}</small>`}`],
  ["Refund", (each) => html`<${RefundButton} purchase=${each} refund=${refund} />`, "action"],
];

function RefundButton({ purchase, refund }) {
  if (purchase.status !== "completed" || !paymentOf(purchase)) return null;
  const label = `Refund: ${titleOf(purchase)}${purchase.user?.name ? `, ${purchase.user.name}` : ""}`;
  return html`<button type="button" class="quiet small" aria-label=${label} aria-haspopup="dialog" onClick=${() => refund(purchase._id)}>Refund…</button>`;
}
