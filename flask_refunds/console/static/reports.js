// The reports view: refund metrics as charts and as a table. Months are in UTC.

import { get } from "./api.js";
import { BarChart, ColumnChart } from "./charts.js";
import { Table } from "./components.js";
import { DataView } from "./data_view.js";
import { DateRange, Filters, SelectField } from "./filters.js";
import { duration, money, month, number, percent, shortMonth } from "./format.js";
import { REASONS } from "./messages.js";
import { href, setParam } from "./router.js";
import { html } from "./ui.js";

// Fewer refunds have no typical time.
const ENOUGH_FOR_MEDIAN = 5;
const ENOUGH_FOR_PERCENTILES = 20;

export class Reports extends DataView {
  query = ({ params: { from, to } }) => ({ from, to });

  fetch(signal) {
    return get("refunds/metrics", this.query(this.props), signal);
  }

  render({ params }, { data: report }) {
    const currencies = report ? Object.entries(report.total.currencies).sort(([, a], [, b]) => b.refunds - a.refunds).map(([name]) => name) : [];
    const currency = currencies.includes(params.currency) ? params.currency : currencies[0];
    return html`<h1 tabindex="-1">Reports</h1>
      <${Filters}>
        <${DateRange} params=${params} />
        ${currencies.length > 1 && html`<${SelectField} label="Currency" value=${currency} options=${currencies.map((each) => [each, each.toUpperCase()])}
          onSelect=${setParam("currency")} />`}
      <//>
      ${this.loadStatus()}
      ${report && html`<${Tiles} report=${report} currency=${currency} /><${Charts} report=${report} currency=${currency} /><${MonthTable} report=${report} currency=${currency} />`}`;
  }
}

/** The median processing time of a period, or `null` of too few refunds. */
const median = ({ refunds, processingSeconds }) => (refunds >= ENOUGH_FOR_MEDIAN ? processingSeconds.median : null);
const totals = (period, currency) => period.currencies[currency] ?? { refunds: 0, amount: 0, averageAmount: null };

function Tiles({ report: { total, open, reviews }, currency }) {
  const { refunds, amount, averageAmount } = totals(total, currency);
  const tiles = [
    ["Refunds", number(total.refunds), total.failed > 0 && `${number(total.failed)} failed`],
    ["Amount", currency ? money(amount, currency) : "—", averageAmount !== null && `${number(refunds)} in ${currency.toUpperCase()}, ${money(averageAmount, currency)} on average`],
    ["Refund rate", percent(total.refundRate), `of ${number(total.purchases.paid)} paid purchases`],
    ["Processing time", duration(median(total)), describeTimes(total)],
    ["Open now", number(open.refunds), open.byAge.older > 0 && `${number(open.byAge.older)} for more than a week`],
    ["Needs review", html`<a href=${href("reviews")}>${number(reviews.refunds)}</a>`],
  ];
  return html`<dl class="tiles">${tiles.map(([name, value, more]) => html`<div class="panel"><dt>${name}</dt><dd class="value">${value}</dd>${more && html`<dd class="muted">${more}</dd>`}</div>`)}</dl>`;
}

function describeTimes({ refunds, processingSeconds }) {
  if (refunds < ENOUGH_FOR_MEDIAN) return `shown from ${ENOUGH_FOR_MEDIAN} refunds on`;
  return refunds < ENOUGH_FOR_PERCENTILES ? "median" : `median, 95% within ${duration(processingSeconds.p95)}`;
}

function Charts({ report, currency }) {
  if (report.total.refunds === 0) return html`<div class="empty"><p>No refunds yet in these months.</p></div>`;
  const points = (value) => report.months.map((each) => ({ label: month(each.month), short: shortMonth(each.month), value: value(each) }));
  const reasons = Object.entries(report.total.reasons).map(([key, value]) => ({ label: REASONS[key] ?? "None given", value }));
  return html`<div class="charts">
    <${ColumnChart} title="Refunds per month" points=${points((each) => each.refunds)} format=${number} empty="No refunds yet." />
    ${currency && html`<${ColumnChart} title="Amount per month, ${currency.toUpperCase()}" points=${points((each) => totals(each, currency).amount)} format=${(value) => money(value, currency)} empty="No refunds yet." />`}
    <${ColumnChart} title="Refund rate" points=${points((each) => each.refundRate)} format=${percent} empty="No purchases of these months were refunded." />
    <${ColumnChart} title="Median processing time" points=${points(median)} format=${duration}
      empty=${report.months.every((each) => median(each) === null) ? `Shown from ${ENOUGH_FOR_MEDIAN} refunds a month on.` : "Stripe settled the refunds within a second."} />
    ${reasons.length > 0 && html`<${BarChart} title="Reasons" points=${reasons.sort((a, b) => b.value - a.value)} format=${number} />`}
  </div>`;
}

function MonthTable({ report, currency }) {
  const columns = [
    ["Month", (each) => month(each.month)],
    ["Refunds", (each) => number(each.refunds), "number"],
    ["Amount", (each) => (currency ? money(totals(each, currency).amount, currency) : "—"), "number"],
    ["Refund rate", (each) => percent(each.refundRate), "number"],
    ["Median time", (each) => duration(median(each)), "number"],
    ["95% within", (each) => (each.refunds >= ENOUGH_FOR_PERCENTILES ? duration(each.processingSeconds.p95) : "—"), "number"],
  ];
  return html`<details class="as-table"><summary>Show as a table</summary>
    <${Table} caption="Refunds by month" columns=${columns} items=${[...report.months].reverse()} keyOf=${(each) => each.month} />
  </details>`;
}
