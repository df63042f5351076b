// Small pieces that several views are made of.

import { dashboardUrl, paymentOf } from "./facts.js";
import { distance, moment } from "./format.js";
import { href } from "./router.js";
import { html } from "./ui.js";
import { MOOD, STATUS, trouble } from "./words.js";

export const Status = ({ status }) =>
  html`<span class="status ${MOOD[status] ?? ""}">${STATUS[status] ?? String(status)}</span>`;

export const Time = ({ iso, far }) =>
  iso ? html`<time datetime=${iso} title=${moment(iso)}>${far ? distance(iso) : moment(iso)}</time>` : "—";

export const PaymentLink = ({ id }) => html`<a class="code" href=${href("payment", id)}>${id}</a>`;

export const DashboardLink = ({ id }) =>
  html`<a href=${dashboardUrl(id)} target="_blank" rel="noopener noreferrer">Payment at Stripe<span aria-hidden="true"> ↗</span></a>`;

export const Note = ({ mood = "", title, children, role }) =>
  html`<div class="note ${mood}" role=${role}>${title && html`<strong>${title}</strong> `}${children}</div>`;

export const Trouble = ({ error, again }) =>
  html`<${Note} mood="bad" role="alert">
    ${trouble(error)} ${again && html`<button type="button" class="link" onClick=${again}>Try again</button>`}
  <//>`;

export const Waiting = ({ children }) => html`<p class="waiting-line"><span class="spinner" aria-hidden="true"></span>${children}</p>`;

/** Who bought something; of who is gone, the id is left. */
export function Customer({ purchase }) {
  const { user } = purchase;
  if (!user) return "—";
  return html`${user.name ?? html`<span class="code">${user._id}</span>`}${user.email && html`<small>${user.email}</small>`}`;
}

export const titleOf = ({ content }) => content?.title ?? (content ? `Content ${content._id}` : "Purchase");

/** What was bought, which leads to its payment. */
export function Title({ purchase }) {
  const payment = paymentOf(purchase);
  const title = titleOf(purchase);
  return html`${payment ? html`<a href=${href("payment", payment)}>${title}</a>` : title}${purchase.content?.type && html`<small>${purchase.content.type}</small>`}`;
}

/** The host's own amount, in whatever unit he keeps it: shown as it is stored. */
export const Stored = ({ purchase }) =>
  purchase.amount === null || purchase.amount === undefined
    ? "—"
    : html`<span title="As your shop stores it">${String(purchase.amount)}${typeof purchase.currency === "string" && html` <small class="unit">${purchase.currency}</small>`}</span>`;

/**
 * A table that turns into cards on a narrow screen.
 * The roles are said because CSS that changes `display` takes them away in some browsers.
 * @param columns [[label, cell(item), className], …]; the first cell heads its row
 */
export function Table({ caption, columns, items, keyOf, busy }) {
  return html`<table role="table" class="table" aria-busy=${busy ? "true" : "false"}>
    <caption class="hidden">${caption}</caption>
    <thead role="rowgroup">
      <tr role="row">${columns.map(([label, , name]) => html`<th role="columnheader" scope="col" class=${name}>${label}</th>`)}</tr>
    </thead>
    <tbody role="rowgroup">
      ${items.map((item) => html`<tr role="row" key=${keyOf(item)}>${columns.map((column, position) => cell(column, item, position))}</tr>`)}
    </tbody>
  </table>`;
}

function cell([label, show, name], item, position) {
  const content = html`<div>${show(item)}</div>`;
  return position === 0
    ? html`<th role="rowheader" scope="row" class=${name} data-label=${label}>${content}</th>`
    : html`<td role="cell" class=${name} data-label=${label}>${content}</td>`;
}
