// The refunds view, and the reviews view with the refunds that need manual review.

import { DashboardLink, PaymentLink, Status, Table, Time } from "./components.js";
import { DateRange, Filters, SearchField, SelectField } from "./filters.js";
import { endOfDay, money, startOfDay } from "./format.js";
import { REASONS, REVIEWS, STATUS } from "./messages.js";
import { PagedList } from "./paged_list.js";
import { Resolve } from "./resolve.js";
import { setParam } from "./router.js";
import { html } from "./ui.js";

const STATUSES = [
  ["", "Any status"],
  ...["succeeded", "pending", "requires_action", "processing", "failed", "canceled"].map((each) => [each, STATUS[each]]),
];
const REASON_OPTIONS = [["", "Any reason"], ...Object.entries(REASONS)];

const replaceRefund = (item, refund) => (item.id === refund.id ? refund : item);
/** A review that was closed here keeps its place, with the form's result, until the list is loaded again. */
const keepReview = (item, refund) => (item.id === refund.id ? { ...refund, review: refund.review ?? item.review } : item);

export function Refunds({ params }) {
  const { q, status, reason, from, to } = params;
  const query = { paymentIntent: q, status, reason, from: startOfDay(from), to: endOfDay(to) };
  return html`<h1 tabindex="-1">Refunds</h1>
    <${Filters}>
      <${SearchField} label="Payment" value=${q} placeholder="pi_…" onSearch=${setParam("q")} />
      <${SelectField} label="Status" options=${STATUSES} value=${status} onSelect=${setParam("status")} />
      <${SelectField} label="Reason" options=${REASON_OPTIONS} value=${reason} onSelect=${setParam("reason")} />
      <${DateRange} params=${params} />
    <//>
    <${PagedList} path="refunds" items="refunds" total="totalRefunds" params=${query} noun="refund" update=${replaceRefund}
      empty=${html`<p>No refunds match.</p>`}>
      ${(items, isLoading) => html`<${Table} caption="Refunds, newest first" columns=${COLUMNS} items=${items} keyOf=${(each) => each.id} isLoading=${isLoading} />`}
    <//>`;
}

const COLUMNS = [
  ["Payment", (each) => html`<${PaymentLink} id=${each.paymentIntent} />`],
  ["Amount", (each) => money(each.amount, each.currency), "number"],
  ["Status", (each) => html`<${Status} status=${each.status} />${each.review && html`<small class="error-text">needs review</small>`}`],
  ["Reason", (each) => REASONS[each.reason] ?? "—"],
  ["Requested", (each) => html`<${Time} iso=${each.createdAt} />`, "muted"],
  ["Settled", (each) => html`<${Time} iso=${each.settledAt} />`, "muted"],
];

export function Reviews({ openRefundDialog }) {
  return html`<h1 tabindex="-1">Refunds that need review</h1>
    <p class="lead">Decide these refunds manually. Each one says what happened and what to do next.</p>
    <${PagedList} path="refunds" items="refunds" total="totalRefunds" params=${{ needsReview: "true" }} noun="refund" update=${keepReview}
      empty=${html`<p>No refunds need review.</p><p class="muted">Every refund is settled or in progress.</p>`}>
      ${(items) => html`<ul class="reviews">${items.map((each) => html`<${Review} key=${each.id} refund=${each} openRefundDialog=${openRefundDialog} />`)}</ul>`}
    <//>`;
}

function Review({ refund, openRefundDialog }) {
  const { amount, currency, paymentIntent, purchaseIds, status, failure, review } = refund;
  const canRefundAgain = review.code === "failed_after_success" && purchaseIds.length > 0;
  return html`<li class="panel review">
    <div class="panel-head">
      <h2>${REVIEWS[review.code] ?? review.code}</h2>
      <span class="muted"><${Time} iso=${review.since} relative /></span>
    </div>
    <p>${amount === null ? "A refund" : html`<b>${money(amount, currency)}</b>`} of <${PaymentLink} id=${paymentIntent} /> <${Status} status=${status} /></p>
    <p>${review.message} ${failure && html`<span class="muted">${failure.message}</span>`}</p>
    <p><b>Next step:</b> ${review.recommendedAction}</p>
    <div class="panel-foot">
      ${canRefundAgain && html`<button type="button" class="secondary small" aria-haspopup="dialog" onClick=${() => openRefundDialog(purchaseIds[0])}>Refund again…</button>`}
      <${DashboardLink} id=${paymentIntent} />
    </div>
    <${Resolve} refund=${refund} />
  </li>`;
}
