// One payment: the purchases that it paid, its refunds, and what became of each.

import { get } from "./api.js";
import { money } from "./format.js";
import { columns, follow } from "./purchases.js";
import { DashboardLink, Note, Status, Table, Time, Trouble, Waiting } from "./parts.js";
import * as session from "./session.js";
import { Component, html } from "./ui.js";
import { follow as keepLooking, onRefund } from "./watch.js";
import { REASONS, STEP, WHY } from "./words.js";

export class Payment extends Component {
  state = { purchases: null, refunds: [], error: null };

  componentDidMount() {
    this.load();
    this.stop = [
      onRefund((refund) => refund.paymentIntent === this.props.id && this.load()),
      session.onChange(() => session.token() && this.state.error && this.load()),
    ];
  }

  componentDidUpdate({ id }) {
    if (id !== this.props.id) this.load();
  }

  componentWillUnmount() {
    this.stop.forEach((stop) => stop());
  }

  load = async () => {
    const { id } = this.props;
    try {
      const [{ purchases }, { refunds }] = await Promise.all([
        get("all", { paymentIntent: id, limit: "100" }),
        get("refunds", { paymentIntent: id, limit: "100" }),
      ]);
      const told = await Promise.all(refunds.map((each) => get(`refunds/${encodeURIComponent(each.id)}`)));
      if (id !== this.props.id) return;
      this.setState({ purchases, refunds: told.map(({ refund }) => refund), error: null });
      refunds.forEach(keepLooking);
    } catch (error) {
      this.setState({ error });
    }
  };

  render({ id, refund }, { purchases, refunds, error }) {
    return html`<p class="crumb"><a href="#/purchases">Purchases</a></p>
      <h1 tabindex="-1" class="code-heading">${id}</h1>
      <p class="lead"><${DashboardLink} id=${id} /></p>
      ${error && html`<${Trouble} error=${error} again=${this.load} />`}
      ${!purchases && !error && html`<${Waiting}>Looking…<//>`}
      ${purchases && html`<${Purchases} purchases=${purchases} refunds=${refunds} refund=${refund} />
        <h2>Refunds</h2>
        ${refunds.length === 0 && html`<div class="empty"><p>This payment has had no refund.</p></div>`}
        ${refunds.map((each) => html`<${Refund} key=${each.id} refund=${each} />`)}`}`;
  }
}

function Purchases({ purchases, refunds, refund }) {
  // Oldest news first, so that what is open now has the last word.
  const now = purchases.map((purchase) => {
    const last = refunds[0];
    return last && purchase.status === "completed" ? { ...purchase, open: follow(purchase, last).open } : purchase;
  });
  return html`<h2>${purchases.length === 1 ? "One purchase" : `${purchases.length} purchases`}</h2>
    ${purchases.length > 1 && html`<p class="soft">They were paid together, so they are refunded together.</p>`}
    ${purchases.length === 0 && html`<div class="empty"><p>No purchase in this shop names this payment.</p></div>`}
    ${purchases.length > 0 && html`<${Table} caption="What this payment paid for" columns=${columns(refund)} items=${now} keyOf=${(each) => each._id} />`}`;
}

function Refund({ refund }) {
  const { amount, currency, status, reason, note, requestedBy, source, bulk, stripeRefundId, failure, attention, history } = refund;
  const facts = [
    ["Reason", REASONS[reason] ?? "None given"],
    ["Asked for by", requestedBy ? html`<span class="code">${requestedBy}</span> (${SOURCES[source] ?? source})` : SOURCES[source] ?? source],
    ["Bulk run", bulk && html`<span class="code">${bulk}</span>`],
    ["Note", note],
    ["At Stripe", stripeRefundId && html`<span class="code">${stripeRefundId}</span>`],
    ["Why it failed", failure?.message],
  ];
  return html`<article class="panel refund" aria-label="Refund ${refund.id}">
    <header class="case-head"><h3>${money(amount, currency)} <${Status} status=${status} /></h3><span class="soft"><${Time} iso=${refund.createdAt} /></span></header>
    ${attention && html`<${Note} mood="bad" title="${WHY[attention.why] ?? attention.why}.">${attention.whatToDo}<//>`}
    <dl class="facts">${facts.filter(([, value]) => value).map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    <h4>History</h4>
    <ol class="history">${history.map((event) => html`<${Event} event=${event} />`)}</ol>
  </article>`;
}

const SOURCES = { endpoint: "from here or the API", command: "command line", host: "the shop's own code", dashboard: "Stripe's Dashboard" };

function Event({ event }) {
  const what = STEP[event.status] ?? event.status;
  const why = WHY[event.attention] ?? event.why;
  return html`<li class=${event.status}>
    <span class="what">${what}</span> <span class="soft">by ${event.by ?? "—"}${why && `: ${why}`}</span>
    <span class="soft when"><${Time} iso=${event.at} />${event.stripeRequestId && html` <span class="code">${event.stripeRequestId}</span>`}</span>
  </li>`;
}
