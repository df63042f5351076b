// The payment view: the purchases that one payment paid for, its refunds, and the history of each.

import { get } from "./api.js";
import { Boundary, brokenRefund } from "./boundary.js";
import { DashboardLink, Table } from "./components.js";
import { DataView } from "./data_view.js";
import { pollUntilSettled } from "./polling.js";
import { columns } from "./purchases.js";
import { RefundPanel } from "./refund_panel.js";
import { html } from "./ui.js";

export class Payment extends DataView {
  query = ({ id }) => id;

  async fetch(signal) {
    const query = { paymentIntent: this.props.id, limit: "100" };
    const [{ purchases }, { refunds, names }] = await Promise.all([
      get("all", query, signal),
      get("refunds", { ...query, history: "true" }, signal),
    ]);
    refunds.forEach(pollUntilSettled);
    return { purchases: purchases.map((each) => each._refunds), refunds, names };
  }

  /** Whichever refund changed: the address may have a charge or a Checkout session in place of the payment. */
  refundChanged() {
    this.load();
  }

  render({ id, openRefundDialog }, { data }) {
    return html`<p class="breadcrumb"><a href="#/purchases">Purchases</a></p>
      <h1 tabindex="-1" class="code-heading">${id}</h1>
      <p class="lead"><${DashboardLink} id=${id} /></p>
      ${this.loadStatus()}
      ${data && html`<${Purchases} ...${data} openRefundDialog=${openRefundDialog} />
        <h2>Refunds</h2>
        ${data.refunds.length === 0 && html`<div class="empty"><p>This payment has no refunds.</p></div>`}
        ${data.refunds.map((each) => html`<${Boundary} key=${each.id} fallback=${brokenRefund}><${RefundPanel} refund=${each} names=${data.names} /><//>`)}`}`;
  }
}

function Purchases({ purchases, openRefundDialog }) {
  return html`<h2>${purchases.length === 1 ? "1 purchase" : `${purchases.length} purchases`}</h2>
    ${purchases.length > 1 && html`<p class="muted">They were paid together, so they are refunded together.</p>`}
    ${purchases.length > 0
      ? html`<${Table} caption="Purchases of this payment" columns=${columns(openRefundDialog)} items=${purchases} keyOf=${(each) => each?.id} />`
      : html`<div class="empty"><p>No purchases in this shop use this payment.</p></div>`}`;
}
