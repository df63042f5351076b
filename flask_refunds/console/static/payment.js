// The payment view: the purchases that one payment paid for, its refunds, and the history of each.

import { get } from "./api.js";
import { DashboardLink, Note, Status, Table, Time } from "./components.js";
import { DataView } from "./data_view.js";
import { money } from "./format.js";
import { HISTORY_STATUS, REASONS, REVIEWS, SOURCES } from "./messages.js";
import { pollUntilSettled } from "./polling.js";
import { applyRefund, columns } from "./purchases.js";
import { html } from "./ui.js";

export class Payment extends DataView {
  query = ({ id }) => id;

  async fetch(signal) {
    const query = { paymentIntent: this.props.id, limit: "100" };
    const [{ purchases }, { refunds }] = await Promise.all([
      get("all", query, signal),
      get("refunds", { ...query, history: "true" }, signal),
    ]);
    refunds.forEach(pollUntilSettled);
    return { purchases: purchases.map((each) => each._refunds), refunds };
  }

  refundChanged(refund) {
    if (refund.paymentIntent === this.props.id) this.load();
  }

  render({ id, openRefundDialog }, { data }) {
    return html`<p class="breadcrumb"><a href="#/purchases">Purchases</a></p>
      <h1 tabindex="-1" class="code-heading">${id}</h1>
      <p class="lead"><${DashboardLink} id=${id} /></p>
      ${this.loadStatus()}
      ${data && html`<${Purchases} ...${data} openRefundDialog=${openRefundDialog} />
        <h2>Refunds</h2>
        ${data.refunds.length === 0 && html`<div class="empty"><p>This payment has no refunds.</p></div>`}
        ${data.refunds.map((each) => html`<${Refund} key=${each.id} refund=${each} />`)}`}`;
  }
}

function Purchases({ purchases, refunds: [latest], openRefundDialog }) {
  const items = purchases.map((purchase) => {
    if (!latest || !purchase.refundable) return purchase;
    return { ...purchase, refundStatus: applyRefund(purchase, latest).refundStatus };
  });
  return html`<h2>${purchases.length === 1 ? "1 purchase" : `${purchases.length} purchases`}</h2>
    ${purchases.length > 1 && html`<p class="muted">They were paid together, so they are refunded together.</p>`}
    ${purchases.length > 0
      ? html`<${Table} caption="Purchases of this payment" columns=${columns(openRefundDialog)} items=${items} keyOf=${(each) => each.id} />`
      : html`<div class="empty"><p>No purchases in this shop use this payment.</p></div>`}`;
}

function Refund({ refund }) {
  const { id, amount, currency, part, status, createdAt, reason, note, requestedBy, source, bulkRun, stripeRefundId, failure, review, history } = refund;
  const sourceText = SOURCES[source] ?? source;
  const details = [
    ["Reason", REASONS[reason] ?? "None given"],
    ["Requested by", requestedBy ? html`<span class="code">${requestedBy}</span> (${sourceText})` : sourceText],
    ["Bulk run", bulkRun && html`<span class="code">${bulkRun}</span>`],
    ["Internal note", note],
    ["Purchase", part?.markRefunded && "Closed with this part"],
    ["Stripe ID", stripeRefundId && html`<span class="code">${stripeRefundId}</span>`],
    ["Failure", failure?.message],
  ];
  return html`<article class="panel refund" aria-label="Refund ${id}">
    <header class="panel-head"><h3>${money(amount, currency)} <${Status} status=${status} /></h3><span class="muted"><${Time} iso=${createdAt} /></span></header>
    ${review && html`<${Note} severity="error" title=${review.message}>${review.recommendedAction}<//>`}
    <dl class="details">${details.filter(([, value]) => value).map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    <h4>History</h4>
    <ol class="history">${history.map((entry) => html`<${HistoryEntry} entry=${entry} />`)}</ol>
  </article>`;
}

function HistoryEntry({ entry: { at, status, actor, comment, review, stripeRequestId } }) {
  const detail = REVIEWS[review] ?? comment;
  return html`<li class=${status}>
    <span class="entry-status" data-status=${status}>${HISTORY_STATUS[status] ?? status}</span> <span class="muted">by ${actor ?? "—"}${detail && `: ${detail}`}</span>
    <span class="muted entry-time"><${Time} iso=${at} />${stripeRequestId && html` <span class="code">${stripeRequestId}</span>`}</span>
  </li>`;
}
