// What an owner wants to know, as pictures and as a table. The months are UTC's, as the figures are.

import { get } from "./api.js";
import { Columns, Rows } from "./charts.js";
import { duration, money, month, number, share, shortMonth } from "./format.js";
import { Table, Trouble, Waiting } from "./parts.js";
import { href, replaceParams } from "./router.js";
import { DateRange, Select } from "./search.js";
import * as session from "./session.js";
import { Component, html } from "./ui.js";
import { REASONS } from "./words.js";

export class Figures extends Component {
  state = { figures: null, error: null };

  componentDidMount() {
    this.load();
    this.stop = session.onChange(() => session.token() && this.state.error && this.load());
  }

  componentDidUpdate({ params }) {
    if (params.from !== this.props.params.from || params.to !== this.props.params.to) this.load();
  }

  componentWillUnmount() {
    this.stop();
    this.waiting.abort();
  }

  load = async () => {
    this.waiting?.abort();
    this.waiting = new AbortController();
    const { from, to } = this.props.params;
    try {
      this.setState({ figures: await get("refunds/metrics", { from, to }, this.waiting.signal), error: null });
    } catch (error) {
      if (error.name !== "AbortError") this.setState({ error });
    }
  };

  render({ params }, { figures, error }) {
    const currencies = figures ? Object.entries(figures.total.currencies).sort(([, a], [, b]) => b.refunds - a.refunds).map(([name]) => name) : [];
    const currency = currencies.includes(params.currency) ? params.currency : currencies[0];
    return html`<h1 tabindex="-1">Figures</h1>
      <form class="filters" onSubmit=${(event) => event.preventDefault()}>
        <${DateRange} params=${params} />
        ${currencies.length > 1 && html`<${Select} label="Currency" value=${currency} options=${currencies.map((each) => [each, each.toUpperCase()])}
          onChoose=${(value) => replaceParams({ ...params, currency: value })} />`}
      </form>
      ${error && html`<${Trouble} error=${error} again=${this.load} />`}
      ${!figures && !error && html`<${Waiting}>Counting…<//>`}
      ${figures && html`<${Tiles} figures=${figures} currency=${currency} /><${Charts} figures=${figures} currency=${currency} /><${AsTable} figures=${figures} currency=${currency} />`}`;
  }
}

const amounts = (period, currency) => period.currencies[currency] ?? { refunds: 0, amount: 0, averageAmount: null };

function Tiles({ figures, currency }) {
  const { total, open, attention } = figures;
  const { refunds, amount, averageAmount } = amounts(total, currency);
  const tiles = [
    ["Refunds", number(total.refunds), total.failed > 0 && `${number(total.failed)} failed`],
    ["Amount", currency ? money(amount, currency) : "—", averageAmount !== null && `${number(refunds)} in ${currency.toUpperCase()}, ${money(averageAmount, currency)} on average`],
    ["Refund rate", share(total.refundRate), `of ${number(total.purchases.paid)} paid purchases`],
    ["Processing time", duration(total.processingSeconds.median), total.processingSeconds.p95 !== null && `19 of 20 within ${duration(total.processingSeconds.p95)}`],
    ["Open now", number(open.refunds), open.byAge.older > 0 && `${number(open.byAge.older)} for more than a week`],
    ["Needs attention", html`<a href=${href("attention")}>${number(attention.refunds)}</a>`, attention.refunds === 0 && "nothing asks for you"],
  ];
  return html`<dl class="tiles">${tiles.map(([name, value, more]) => html`<div class="panel"><dt>${name}</dt><dd class="value">${value}</dd>${more && html`<dd class="soft">${more}</dd>`}</div>`)}</dl>`;
}

function Charts({ figures, currency }) {
  const points = (value) => figures.months.map((each) => ({ label: month(each.month), short: shortMonth(each.month), value: value(each) }));
  const reasons = Object.entries(figures.total.reasons).map(([key, value]) => ({ label: REASONS[key] ?? "None given", value }));
  return html`<div class="charts">
    <${Columns} title="Refunds a month" points=${points((each) => each.refunds)} format=${number} />
    ${currency && html`<${Columns} title="Amount a month, ${currency.toUpperCase()}" points=${points((each) => amounts(each, currency).amount)} format=${(value) => money(value, currency)} />`}
    <${Columns} title="Refund rate" points=${points((each) => each.refundRate)} format=${share} />
    <${Columns} title="Processing time, median" points=${points((each) => each.processingSeconds.median)} format=${duration} />
    ${reasons.length > 0 && html`<${Rows} title="Reasons" points=${reasons.sort((a, b) => b.value - a.value)} format=${number} />`}
  </div>`;
}

function AsTable({ figures, currency }) {
  const columns = [
    ["Month", (each) => month(each.month)],
    ["Refunds", (each) => number(each.refunds), "number"],
    ["Amount", (each) => (currency ? money(amounts(each, currency).amount, currency) : "—"), "number"],
    ["Refund rate", (each) => share(each.refundRate), "number"],
    ["Median time", (each) => duration(each.processingSeconds.median), "number"],
    ["95 of 100 within", (each) => duration(each.processingSeconds.p95), "number"],
  ];
  return html`<details class="as-table"><summary>The same as a table</summary>
    <${Table} caption="Figures by month" columns=${columns} items=${[...figures.months].reverse()} keyOf=${(each) => each.month} />
  </details>`;
}
