// The refunds view, and the reviews view with the refunds that need manual review.

import { Boundary, brokenRefund } from "./boundary.js";
import { Customer, DashboardLink, PaymentLink, PurchaseLink, purchaseTitle, Status, Table, Time } from "./components.js";
import { decimalAmount } from "./csv.js";
import { CustomerSearch, DateRange, Filters, SearchHint, SelectField, toSearch } from "./filters.js";
import { endOfDay, money, startOfDay } from "./format.js";
import { REASONS, requester, REVIEWS, STATUS } from "./messages.js";
import { PagedList } from "./paged_list.js";
import { Advice, CustomerMessage } from "./refund_panel.js";
import { Cancel, Resolve } from "./resolve.js";
import { setParam } from "./router.js";
import { html } from "./ui.js";

const STATUSES = [
  ["", "Any status"],
  ...["succeeded", "pending", "requires_action", "processing", "failed", "canceled"].map((each) => [each, STATUS[each]]),
];
const REASON_OPTIONS = [["", "Any reason"], ...Object.entries(REASONS)];

// The answer to a decision doesn't have the purchase.
const replaceRefund = (item, refund) => (item.id === refund.id ? { purchase: item.purchase, ...refund } : item);
/** A review that was closed here keeps its place, with the form's result, until the list is loaded again. */
const keepReview = (item, refund) => {
  const replaced = replaceRefund(item, refund);
  return { ...replaced, review: replaced.review ?? item.review };
};

export function Refunds({ params }) {
  const { q, status, reason, from, to } = params;
  const query = { ...toSearch(q), status, reason, from: startOfDay(from), to: endOfDay(to) };
  return html`<h1 tabindex="-1">Refunds</h1>
    <${Filters}>
      <${CustomerSearch} value=${q} />
      <${SelectField} label="Status" options=${STATUSES} value=${status} onSelect=${setParam("status")} />
      <${SelectField} label="Reason" options=${REASON_OPTIONS} value=${reason} onSelect=${setParam("reason")} />
      <${DateRange} params=${params} />
    <//>
    <${PagedList} path="refunds" items="refunds" total="totalRefunds" params=${query} noun="refund" update=${replaceRefund} csv=${CSV}
      empty=${html`<p>No refunds match.</p><${SearchHint} />`}>
      ${(items, isLoading, { names }) => html`<${Table} caption="Refunds, newest first" columns=${columns(names)} items=${items} keyOf=${(each) => each?.id} isLoading=${isLoading} />`}
    <//>`;
}

const columns = (names) => [
  ["Refund of", (each) => html`<${PurchaseLink} purchase=${each.purchase} payment=${each.paymentIntent} />`],
  ["Customer", (each) => html`<${Customer} purchase=${each.purchase} />`],
  ["Amount", (each) => money(each.amount, each.currency), "number"],
  ["Status", (each) => html`<${Status} status=${each.status} />${each.review && html`<small class="error-text">needs review</small>`}`],
  ["Reason", (each) => REASONS[each.reason] ?? "—"],
  ["Requested", (each) => html`<${Time} iso=${each.createdAt} /><small>${requester(each, names)}</small>`],
  ["Settled", (each) => html`<${Time} iso=${each.settledAt} />`, "muted"],
];

const CSV = [
  ["id", (each) => each.id],
  ["payment", (each) => each.paymentIntent],
  ["status", (each) => each.status],
  ["amount", (each) => decimalAmount(each.amount, each.currency)],
  ["currency", (each) => each.currency?.toUpperCase()],
  ["purchase", (each) => each.purchase?.id ?? each.purchaseIds[0]],
  ["item", (each) => each.purchase?.content?.title],
  ["customer", (each) => each.purchase?.user?.name ?? each.purchase?.user?.id],
  ["email", (each) => each.purchase?.user?.email],
  ["reason", (each) => each.reason],
  ["note", (each) => each.note],
  ["requestedBy", (each, names) => requester(each, names)],
  ["requestedAt", (each) => each.createdAt],
  ["settledAt", (each) => each.settledAt],
  ["bankReference", (each) => each.details?.reference],
  ["failure", (each) => each.failure?.message],
  ["stripeId", (each) => each.stripeRefundId],
];

export function Reviews({ openRefundDialog }) {
  return html`<h1 tabindex="-1">Refunds that need review</h1>
    <p class="lead">Decide these refunds manually. Each one says what happened and what to do next.</p>
    <${PagedList} path="refunds" items="refunds" total="totalRefunds" params=${{ needsReview: "true" }} noun="refund" update=${keepReview}
      empty=${html`<p>No refunds need review.</p><p class="muted">Every refund is settled or in progress.</p>`}>
      ${(items) => html`<ul class="reviews">${items.map((each) => html`<li key=${each.id} class="panel review">
        <${Boundary} fallback=${brokenRefund}><${Review} refund=${each} openRefundDialog=${openRefundDialog} /><//>
      </li>`)}</ul>`}
    <//>`;
}

function Review({ refund, openRefundDialog }) {
  const { amount, currency, paymentIntent, purchaseIds, status, review, purchase } = refund;
  const user = purchase?.user;
  const canRefundAgain = review.code === "failed_after_success" && purchaseIds.length > 0;
  return html`<div class="panel-head">
      <h2>${REVIEWS[review.code] ?? review.code}</h2>
      <span class="muted"><${Time} iso=${review.since} relative /></span>
    </div>
    <p><b>${amount === null ? "A refund" : money(amount, currency)}</b> of <${PaymentLink} id=${paymentIntent} /> <${Status} status=${status} /></p>
    ${purchase && html`<p>For ${purchaseTitle(purchase)}${user && `, ${[user.name, user.email].filter(Boolean).join(", ") || user.id}`}</p>`}
    <${Advice} refund=${refund} />
    <${CustomerMessage} refund=${refund} />
    <div class="panel-foot">
      ${canRefundAgain && html`<button type="button" class="secondary small" aria-haspopup="dialog" onClick=${() => openRefundDialog(purchaseIds[0])}>Refund again…</button>`}
      <${DashboardLink} id=${paymentIntent} />
    </div>
    <${Cancel} refund=${refund} />
    <${Resolve} refund=${refund} />`;
}
