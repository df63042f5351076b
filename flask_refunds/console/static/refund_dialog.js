// The refund dialog: a preview of the refund, its form, and the result.

import { get } from "./api.js";
import { DashboardLink, Loading, Note, purchaseTitle, Status } from "./components.js";
import { DataView } from "./data_view.js";
import { Dialog } from "./dialog.js";
import * as draft from "./draft.js";
import { dateTime, money } from "./format.js";
import { card as cardText, describeLateResult, describeResult, REASONS, STATUS, WHEN } from "./messages.js";
import { allowsPart, AmountField, chosenAmount, isBarring, partFields, repeatedFields } from "./partial.js";
import { isSettled } from "./polling.js";
import { CustomerMessage } from "./refund_panel.js";
import { isInProgress, requestRefund } from "./refund_requests.js";
import { html } from "./ui.js";

const SLOW_MS = 4000;
const MAX_NOTE_LENGTH = 500;
const ACCEPTED = new Set(["succeeded", "pending", "requires_action"]);

export class RefundDialog extends DataView {
  state = {
    ...this.state,
    result: null, isSlow: false, isSending: isInProgress(this.props.purchaseId), isJoined: isInProgress(this.props.purchaseId),
    reason: "", note: "", amount: null, closes: false, email: null, ...this.props.draft,
  };

  componentDidMount() {
    super.componentDidMount();
    if (this.state.isSending) this.send();
  }

  componentWillUnmount() {
    super.componentWillUnmount();
    this.isUnmounted = true;
    clearTimeout(this.slowTimer);
  }

  fetch(signal) {
    return get(`refund/${encodeURIComponent(this.props.purchaseId)}`, {}, signal);
  }

  refundChanged(refund) {
    const { result } = this.state;
    if (result?.refund?.id === refund.id) this.setState({ result: { fields: result.fields, refund, status: isSettled(refund) ? 200 : 202 } });
  }

  update = (fields) => {
    const { purchaseId } = this.props;
    this.setState(fields, () => draft.save({ purchaseId, ...pick(this.state, ["reason", "note", "amount", "closes", "email"]) }));
  };

  /** What to send: what the form says, or else the same as before. */
  fields() {
    const { data: preview, result, reason, note } = this.state;
    if (result) return result.fields;
    const active = preview && activeRefund(preview);
    const part = active ? repeatedFields(active) : preview && { ...partFields(preview, this.state), ...emailFields(preview, this.state) };
    return { reason: reason || null, note: note.trim() || null, ...part };
  }

  send = async () => {
    const fields = this.fields();
    this.setState({ isSending: true, isSlow: false });
    this.slowTimer = setTimeout(() => this.setState({ isSlow: true }), SLOW_MS);
    const result = await requestRefund(this.props.purchaseId, fields);
    clearTimeout(this.slowTimer);
    if (this.isUnmounted) return this.props.onLateResult(describeLateResult(result));
    if (result.status !== 401) draft.clear();
    this.setState({ isSending: false, result });
    this.resultElement?.focus();
  };

  submit = (event) => {
    event.preventDefault();
    const { result } = this.state;
    if (result && describeResult(result).isOutdated) return this.lookAgain();
    // A double click submits twice before the button is disabled.
    if (!isInProgress(this.props.purchaseId)) this.send();
  };

  lookAgain() {
    this.setState({ data: null, result: null, amount: null, isJoined: false });
    this.load();
  }

  close = () => {
    draft.clear();
    this.props.onClose();
  };

  render(props, state) {
    const { data: preview, result, isSending, isJoined } = state;
    const active = preview && activeRefund(preview);
    const chosen = preview && chosenAmount(preview, state);
    const amount = preview && money(chosen, preview.payment.currency);
    const isStopped = preview && !result && !active && isStoppedBy(preview.payment);
    const isValid = Boolean(result || active) || (chosen !== null && hasEmail(preview, state));
    const heading = result || !preview || chosen === null || isStopped ? "Refund" : active || isJoined ? "Refund in progress" : `Refund ${amount}?`;
    return html`<${Dialog} label="refund-heading" onClose=${this.close}>
      <form onSubmit=${this.submit} aria-busy=${isSending ? "true" : "false"}>
        <h2 id="refund-heading">${heading}</h2>
        ${this.loadStatus("Loading the payment from Stripe…")}
        ${preview && html`<${Preview} ...${preview} refundsAll=${!result && !isJoined && !active?.part && chosen === preview.payment.refundable} />`}
        ${preview && !result && html`<${Dispute} payment=${preview.payment} />`}
        ${preview && !result && !isStopped && !isJoined && (active ? html`<${ActiveRefund} refund=${active} />` : html`<${Form} preview=${preview} purchaseId=${props.purchaseId} state=${state} update=${this.update} />`)}
        <div class="result" tabindex="-1" ref=${(element) => (this.resultElement = element)} role="status">
          ${isSending && html`<${Loading}>${state.isSlow ? "Stripe is slow to respond. You can close this window: the refund continues, and is never made twice." : "Waiting for Stripe…"}<//>`}
          ${result && !isSending && html`<${Result} result=${result} />`}
        </div>
        <${Buttons} preview=${isStopped ? null : preview} amount=${amount} isValid=${isValid} active=${active} result=${result} isSending=${isSending} close=${this.close} />
      </form>
    <//>`;
  }
}

const pick = (object, names) => Object.fromEntries(names.map((name) => [name, object[name]]));

/** The refund that the next request would resume, if any. */
const activeRefund = (preview) => preview.refunds.find((each) => !isSettled(each) && isBarring(preview, each));

function Preview({ payment, purchases: documents, refundsAll }) {
  const purchases = documents.map((each) => each._refunds);
  const user = purchases.find((each) => each.user)?.user;
  return html`<dl class="details">
      ${user && html`<div><dt>To</dt><dd>${[user.name, user.email].filter(Boolean).join(", ") || user.id}</dd></div>`}
      <div><dt>Paid</dt><dd>${money(payment.amount, payment.currency)}, ${paidWith(payment)}${payment.refunded > 0 && html`<br />${money(payment.refunded, payment.currency)} already refunded`}</dd></div>
      <div><dt>For</dt><dd>${purchases.length === 1 ? purchaseTitle(purchases[0]) : html`<ul>${purchases.map((each) => html`<li>${purchaseTitle(each)}</li>`)}</ul>`}</dd></div>
    </dl>
    ${purchases.length > 1 && refundsAll && html`<${Note} severity="warning">One payment covered these ${purchases.length} purchases. <b>All of them will be refunded.</b><//>`}`;
}

const paidWith = ({ card, method }) => (card ? cardText(card) : method?.replaceAll("_", " ") ?? "not by card");

const destination = ({ goesTo, card }) => goesTo ?? `The money goes back to ${card ? `the card ${cardText(card)}` : "the payment method that the customer used"}.`;

/** Whether the bank decides about this payment. Without `dispute`, Stripe didn't tell how far the dispute is. */
const isStoppedBy = ({ disputed, dispute }) => disputed && dispute !== "inquiry";

const DISPUTES = {
  inquiry: ["The customer's bank asks about this payment.", "A full refund usually ends the inquiry before it becomes a dispute. Before you refund, look in Stripe whether it is still open."],
  chargeback: ["The customer disputed this payment with their bank.", "Don't refund it: the bank holds the money, and the customer may get it twice. Answer the dispute in Stripe. If you agree with the customer, accept it there."],
  unknown: ["The customer disputed this payment with their bank.", "Stripe doesn't tell how far the dispute is. Look there first: if the bank only asks about the payment, refund it there. Else answer the dispute, or the customer may get the money twice."],
};

function Dispute({ payment }) {
  if (!payment.disputed) return null;
  const [title, text] = DISPUTES[payment.dispute] ?? DISPUTES.unknown;
  return html`<${Note} severity=${isStoppedBy(payment) ? "error" : "warning"} title=${title}>
    ${text}
    <span class="note-foot"><${DashboardLink} id=${payment.id} /></span>
  <//>`;
}

const ActiveRefund = ({ refund }) =>
  html`<${Note} severity="warning">This refund was requested on ${dateTime(refund.createdAt)}. Its status is <b>${STATUS[refund.status]}</b>. Checking again resumes it; nothing is refunded twice.<//>`;

function Form({ preview, purchaseId, state, update }) {
  const { reason, note, isSending } = state;
  const { payment } = preview;
  const isPart = (chosenAmount(preview, state) ?? payment.refundable) < payment.refundable;
  return html`${payment.refundable > 0 && html`<p>${isPart ? "This is a part of the payment." : `This is a full refund${payment.refunded > 0 ? " of what is left" : ""}.`} ${destination(payment)}</p>`}
    ${allowsPart(preview) && html`<${AmountField} preview=${preview} purchaseId=${purchaseId} state=${state} update=${update} />`}
    ${payment.needsEmail && html`<${EmailField} preview=${preview} state=${state} update=${update} />`}
    <label class="field"><span>Reason</span>
      <select value=${reason} disabled=${isSending} onChange=${(event) => update({ reason: event.currentTarget.value })} aria-describedby="reason-hint">
        <option value="" selected=${!reason}>None given</option>
        ${Object.entries(REASONS).map(([key, text]) => html`<option value=${key} selected=${key === reason}>${text}</option>`)}
      </select>
    </label>
    <div id="reason-hint" role="status">${reason === "fraudulent" && html`<${Note} severity="error">Stripe will block this card and email address for all your payments.<//>`}</div>
    <label class="field"><span>Internal note <small class="muted">not shown to the customer</small></span>
      <textarea rows="2" maxlength=${MAX_NOTE_LENGTH} value=${note} disabled=${isSending} onInput=${(event) => update({ note: event.currentTarget.value })}></textarea>
    </label>
    ${payment.refundable > 0 && html`<p class="muted small-print">${WHEN} Stripe keeps its fee for the payment.${!payment.livemode && " Test mode: no real money moves."}</p>`}`;
}

/** Some payment methods have no way back: Stripe asks the customer by e-mail where to send the money. */
const emailOf = ({ payment }, { email }) => (email ?? payment.customerEmail ?? "").trim();
const hasEmail = (preview, state) => !preview?.payment.needsEmail || /^\S+@\S+$/.test(emailOf(preview, state));
const emailFields = (preview, state) => (preview.payment.needsEmail ? { instructionsEmail: emailOf(preview, state) } : {});

const EmailField = ({ preview, state, update }) =>
  html`<label class="field"><span>Customer's e-mail address</span>
      <input type="email" required autocomplete="off" value=${state.email ?? preview.payment.customerEmail ?? ""} disabled=${state.isSending} aria-describedby="email-hint"
        onInput=${(event) => update({ email: event.currentTarget.value })} />
    </label>
    <p id="email-hint" class="muted small-print">This payment method can't take money back. Stripe writes to this address and asks where to send it.</p>`;

function Result({ result }) {
  const { severity, title, text } = describeResult(result);
  const { code, refund } = result;
  return html`<${Note} severity=${severity} title="${title}.">
    <span data-code=${code ?? refund?.status ?? "no_response"}>${text}</span>
    ${refund && html`<span class="note-foot"><${Status} status=${refund.status} /> <${DashboardLink} id=${refund.paymentIntent} /></span>`}
  <//>
  ${ACCEPTED.has(refund?.status) && html`<${CustomerMessage} refund=${refund} />`}`;
}

function Buttons({ preview, amount, isValid, active, result, isSending, close }) {
  let label = null;
  if (result) label = describeResult(result).button;
  else if (active) label = "Check again";
  else if (preview) label = preview.payment.refundable > 0 ? `Refund ${isValid ? amount : ""}` : "Update the purchase status";
  return html`<div class="buttons">
    <button type="button" class="secondary" onClick=${close}>${result || isSending || active || !preview ? "Close" : "Cancel"}</button>
    ${preview && label && html`<button type="submit" class=${active || result ? "" : "danger"} disabled=${isSending || !isValid} aria-disabled=${isSending || !isValid}>${isSending ? "Refunding…" : label}</button>`}
  </div>`;
}
