// The ledger: every refund, and those that ask for a person.

import { endOfDay, money, startOfDay } from "./format.js";
import { Listing } from "./listing.js";
import { DashboardLink, PaymentLink, Status, Table, Time } from "./parts.js";
import { replaceParams } from "./router.js";
import { DateRange, Search, Select } from "./search.js";
import { html } from "./ui.js";
import { REASONS, STATUS, WHY } from "./words.js";

const STATUSES = [
  ["", "Any status"],
  ...["succeeded", "pending", "requires_action", "processing", "failed", "canceled"].map((each) => [each, STATUS[each]]),
];
const REASONS_FILTER = [["", "Any reason"], ...Object.entries(REASONS)];

const noun = (count) => (count === 1 ? "refund" : "refunds");
const follow = (item, refund) => (item.id === refund.id ? refund : item);

export function Refunds({ params }) {
  const { q, status, reason, from, to } = params;
  const query = { paymentIntent: q, status, reason, from: startOfDay(from), to: endOfDay(to) };
  const choose = (name) => (value) => replaceParams({ ...params, [name]: value });
  return html`<h1 tabindex="-1">Refunds</h1>
    <form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
      <${Search} label="Payment" value=${q} placeholder="pi_…" onSearch=${choose("q")} />
      <${Select} label="Status" options=${STATUSES} value=${status} onChoose=${choose("status")} />
      <${Select} label="Reason" options=${REASONS_FILTER} value=${reason} onChoose=${choose("reason")} />
      <${DateRange} params=${params} />
    </form>
    <${Listing} path="refunds" kind="refunds" total="totalRefunds" params=${query} noun=${noun} update=${follow}
      empty=${html`<p>No refund fits.</p>`}>
      ${(items, busy) => html`<${Table} caption="Refunds, newest first" columns=${COLUMNS} items=${items} keyOf=${(each) => each.id} busy=${busy} />`}
    <//>`;
}

const COLUMNS = [
  ["Payment", (each) => html`<${PaymentLink} id=${each.paymentIntent} />`],
  ["Amount", (each) => money(each.amount, each.currency), "number"],
  ["Status", (each) => html`<${Status} status=${each.status} />${each.attention && html`<small class="bad-text">needs attention</small>`}`],
  ["Reason", (each) => REASONS[each.reason] ?? "—"],
  ["Asked for", (each) => html`<${Time} iso=${each.createdAt} />`, "soft"],
  ["Settled", (each) => html`<${Time} iso=${each.settledAt} />`, "soft"],
];

export function Attention({ refund }) {
  return html`<h1 tabindex="-1">Needs attention</h1>
    <p class="lead">What no machine may decide. Each case says what happened, and what to do next.</p>
    <${Listing} path="refunds" kind="refunds" total="totalRefunds" params=${{ attention: "true" }} update=${follow}
      noun=${(count) => (count === 1 ? "case" : "cases")}
      empty=${html`<p>Nothing asks for you.</p><p class="soft">Every refund is settled, or on its way.</p>`}>
      ${(items) => html`<ul class="cases">${items.map((each) => html`<${Case} key=${each.id} each=${each} refund=${refund} />`)}</ul>`}
    <//>`;
}

function Case({ each, refund }) {
  const { attention } = each;
  const isAgain = attention.why === "failed_after_success" && each.purchaseIds.length > 0;
  return html`<li class="panel case">
    <div class="case-head">
      <h2>${WHY[attention.why] ?? attention.why}</h2>
      <span class="soft"><${Time} iso=${attention.since} far /></span>
    </div>
    <p><b>${money(each.amount, each.currency)}</b> of <${PaymentLink} id=${each.paymentIntent} /> <${Status} status=${each.status} /></p>
    ${each.failure && html`<p class="soft">${each.failure.message}</p>`}
    <p class="next"><b>Next:</b> ${attention.whatToDo}</p>
    <div class="case-foot">
      ${isAgain && html`<button type="button" class="quiet small" aria-haspopup="dialog" onClick=${() => refund(each.purchaseIds[0])}>Refund again…</button>`}
      <${DashboardLink} id=${each.paymentIntent} />
      <details><summary>Close the case</summary><p>On the server: <code>flask refunds resolve ${each.id} --done --why "…"</code></p></details>
    </div>
  </li>`;
}
