// Small components that several views share.

import { dateTime, isTime, money, relativeTime, storedMoney } from "./format.js";
import { canRetry, errorMessage, SEVERITY, STATUS } from "./messages.js";
import { dashboardUrl, orderUrl } from "./page_config.js";
import { href } from "./router.js";
import { Component, html } from "./ui.js";

export const Status = ({ status }) =>
  html`<span class="status ${SEVERITY[status] ?? ""}" data-status=${String(status)}>${STATUS[status] ?? status ?? "—"}</span>`;

export const Time = ({ iso, relative }) =>
  isTime(iso) ? html`<time datetime=${iso} title=${dateTime(iso)}>${relative ? relativeTime(iso) : dateTime(iso)}</time>` : "—";

export const PaymentLink = ({ id }) => html`<a class="code" href=${href("payment", id)}>${id}</a>`;

export const DashboardLink = ({ id }) =>
  html`<a href=${dashboardUrl(id)} target="_blank" rel="noopener noreferrer">View in Stripe<span aria-hidden="true"> ↗</span></a>`;

export const Note = ({ severity = "", title, children, role }) =>
  html`<div class="note ${severity}" role=${role}>${title && html`<strong>${title}</strong> `}${children}</div>`;

export const ErrorNote = ({ error, onRetry }) =>
  html`<${Note} severity="error" role="alert">
    ${errorMessage(error)} ${canRetry(error) && html`<button type="button" class="link" onClick=${onRetry}>Try again</button>`}
  <//>`;

export const Loading = ({ children }) => html`<p class="loading"><span class="spinner" aria-hidden="true"></span>${children}</p>`;

// A purchase is shown by its `_refunds`, whose names don't depend on your app.

/** The customer of a purchase. Only the ID is left of a deleted user. */
export function Customer({ purchase }) {
  const user = purchase?.user;
  if (!user) return "—";
  return html`${user.name ?? html`<span class="code">${user.id}</span>`}${user.email && html`<small>${user.email}</small>`}`;
}

export const purchaseTitle = ({ content }) => content?.title ?? (content ? `Content ${content.id}` : "Purchase");

/** The title of a purchase, with a link to its payment. Without a purchase, it is the payment's ID. */
export function PurchaseLink({ purchase, payment = purchase.payment }) {
  if (!purchase) return html`<${PaymentLink} id=${payment} />`;
  const { content } = purchase;
  const title = purchaseTitle(purchase);
  return html`${payment ? html`<a href=${href("payment", payment)}>${title}</a>` : title}<small>${content?.type} <${OrderLink} purchase=${purchase} /></small>`;
}

/** A link to the purchase in your app, if `REFUNDS_ORDER_URL` is set. */
function OrderLink({ purchase }) {
  const url = orderUrl(purchase.id);
  return url && html`<a href=${url} target="_blank" rel="noopener noreferrer">Open order<span class="visually-hidden"> ${purchaseTitle(purchase)}</span><span aria-hidden="true"> ↗</span></a>`;
}

export function PurchaseAmount({ purchase: { amountText, status, refundedAmount, refundedCurrency } }) {
  const isPart = refundedAmount > 0 && status !== "refunded";
  return html`${amountText ? html`<span title="As stored by your shop">${storedMoney(amountText)}</span>` : "—"}${isPart && html`<small>${money(refundedAmount, refundedCurrency)} refunded</small>`}`;
}

/**
 * A table that is shown as cards on a narrow screen.
 * Its roles are explicit because some browsers drop them when CSS changes `display`.
 * @prop columns [[label, cell(item), className], …]; the first cell is the row's header
 */
export function Table({ caption, columns, items, keyOf, isLoading }) {
  return html`<table role="table" class="table" aria-busy=${isLoading ? "true" : "false"}>
    <caption class="visually-hidden">${caption}</caption>
    <thead role="rowgroup">
      <tr role="row">${columns.map(([label, , name]) => html`<th role="columnheader" scope="col" class=${name}>${label}</th>`)}</tr>
    </thead>
    <tbody role="rowgroup">
      ${items.map((item) => html`<tr role="row" key=${keyOf(item)}>${columns.map((column, position) => cell(column, item, position))}</tr>`)}
    </tbody>
  </table>`;
}

/** Shows "—" if a document can't be shown. The rest of the list stays. */
class Cell extends Component {
  state = { isBroken: false };

  static getDerivedStateFromError(error) {
    console.error(error);
    return { isBroken: true };
  }

  componentDidUpdate({ item }) {
    if (this.state.isBroken && item !== this.props.item) this.setState({ isBroken: false });
  }

  render(props, { isBroken }) {
    return html`<div>${isBroken ? "—" : html`<${Content} ...${props} />`}</div>`;
  }
}

const Content = ({ show, item }) => show(item);

function cell([label, show, name], item, position) {
  const content = html`<${Cell} show=${show} item=${item} />`;
  return position === 0
    ? html`<th role="rowheader" scope="row" class=${name} data-label=${label}>${content}</th>`
    : html`<td role="cell" class=${name} data-label=${label}>${content}</td>`;
}
