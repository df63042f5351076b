// Refunding: what will happen, the asking, and what came of it.

import { get } from "./api.js";
import { Dialog } from "./dialog.js";
import * as draft from "./draft.js";
import { money, moment } from "./format.js";
import { DashboardLink, Note, Status, titleOf, Trouble, Waiting } from "./parts.js";
import { isUnderWay, refund as ask } from "./refunding.js";
import * as session from "./session.js";
import { Component, html } from "./ui.js";
import { isSettled, onRefund } from "./watch.js";
import { card, describe, REASONS, STATUS } from "./words.js";

const SLOW_MS = 4000;
const MAX_NOTE = 500;

export class RefundDialog extends Component {
  state = {
    facts: null, error: null, outcome: null, isSlow: false,
    isAsking: isUnderWay(this.props.purchaseId),
    reason: "", note: "", ...this.props.draft,
  };

  componentDidMount() {
    this.look();
    this.stop = [
      session.onChange(() => session.token() && this.state.error && this.look()),
      onRefund((refund) => this.hear(refund)),
    ];
    if (this.state.isAsking) this.send();
  }

  componentWillUnmount() {
    this.isGone = true;
    clearTimeout(this.patience);
    this.stop.forEach((stop) => stop());
  }

  look = async () => {
    this.setState({ error: null });
    try {
      const facts = await get(`refund/${this.props.purchaseId}`);
      this.setState({ facts });
    } catch (error) {
      this.setState({ error });
    }
  };

  /** News of this refund came by itself. */
  hear(refund) {
    const { outcome } = this.state;
    if (outcome?.refund?.id === refund.id) this.setState({ outcome: { ...outcome, refund, status: isSettled(refund) ? 200 : outcome.status } });
  }

  write = (fields) => {
    this.setState(fields, () => draft.keep({ purchaseId: this.props.purchaseId, reason: this.state.reason, note: this.state.note }));
  };

  send = async () => {
    const { reason, note } = this.state;
    this.setState({ isAsking: true, isSlow: false });
    this.patience = setTimeout(() => this.setState({ isSlow: true }), SLOW_MS);
    const outcome = await ask(this.props.purchaseId, { reason: reason || null, note: note.trim() || null });
    clearTimeout(this.patience);
    if (outcome.status !== 401) draft.forget();
    if (this.isGone) return this.props.onLate(describe(outcome));
    this.setState({ isAsking: false, outcome });
    this.answer?.focus();
  };

  submit = (event) => {
    event.preventDefault();
    // A double click is two of these before anything is drawn anew.
    if (!isUnderWay(this.props.purchaseId)) this.send();
  };

  close = () => {
    draft.forget();
    this.props.onClose();
  };

  render(props, state) {
    const { facts, error, outcome, isAsking } = state;
    const amount = facts && money(facts.payment.refundable, facts.payment.currency);
    const open = facts?.refunds.find((each) => !isSettled(each));
    const heading = outcome || !facts ? "Refund" : open ? "A refund is under way" : `Refund ${amount}?`;
    return html`<${Dialog} label="refund-heading" onClose=${this.close}>
      <form onSubmit=${this.submit} aria-busy=${isAsking ? "true" : "false"}>
        <h2 id="refund-heading">${heading}</h2>
        ${!facts && !error && html`<${Waiting}>Asking Stripe about the payment…<//>`}
        ${error && html`<${Trouble} error=${error} again=${this.look} />`}
        ${facts && html`<${Facts} facts=${facts} isDone=${Boolean(outcome)} />`}
        ${facts && !outcome && (open ? html`<${Open} refund=${open} />` : html`<${Ask} facts=${facts} state=${state} write=${this.write} />`)}
        <div class="answer" tabindex="-1" ref=${(element) => (this.answer = element)} role="status">
          ${isAsking && html`<${Waiting}>${state.isSlow ? "Stripe takes its time. You may close this: the refund goes on, and cannot be made twice." : "Asking Stripe…"}<//>`}
          ${outcome && !isAsking && html`<${Answer} outcome=${outcome} />`}
        </div>
        <${Buttons} facts=${facts} amount=${amount} open=${open} outcome=${outcome} isAsking=${isAsking} close=${this.close} />
      </form>
    <//>`;
  }
}

function Facts({ facts, isDone }) {
  const { payment, purchases } = facts;
  const user = purchases.find((each) => each.user)?.user;
  return html`<dl class="facts">
      ${user && html`<div><dt>To</dt><dd>${[user.name, user.email].filter(Boolean).join(", ") || user._id}</dd></div>`}
      <div><dt>On</dt><dd>${payment.card ? card(payment.card) : "the way the customer paid"}</dd></div>
      <div><dt>Paid</dt><dd>${money(payment.amount, payment.currency)}${payment.refunded > 0 && html`, of which ${money(payment.refunded, payment.currency)} went back`}</dd></div>
      <div><dt>For</dt><dd>${purchases.length === 1 ? titleOf(purchases[0]) : html`<ul>${purchases.map((each) => html`<li>${titleOf(each)}</li>`)}</ul>`}</dd></div>
    </dl>
    ${purchases.length > 1 && !isDone && html`<${Note} mood="waiting">One payment covered these ${purchases.length} purchases. <b>All of them are refunded.</b><//>`}`;
}

const Open = ({ refund }) =>
  html`<${Note} mood="waiting">It was asked for on ${moment(refund.createdAt)} and is <b>${STATUS[refund.status]}</b>. Asking again goes on with it; nothing is refunded twice.<//>`;

function Ask({ facts, state, write }) {
  const { reason, note, isAsking } = state;
  return html`<label class="field"><span>Reason</span>
      <select value=${reason} disabled=${isAsking} onChange=${(event) => write({ reason: event.currentTarget.value })} aria-describedby="reason-hint">
        <option value="" selected=${!reason}>None given</option>
        ${Object.entries(REASONS).map(([key, word]) => html`<option value=${key} selected=${key === reason}>${word}</option>`)}
      </select>
    </label>
    <div id="reason-hint" role="status">${reason === "fraudulent" && html`<${Note} mood="bad">Stripe will block this card and e-mail address for all your payments.<//>`}</div>
    <label class="field"><span>Note for the books <small class="soft">the customer does not see it</small></span>
      <textarea rows="2" maxlength=${MAX_NOTE} value=${note} disabled=${isAsking} onInput=${(event) => write({ note: event.currentTarget.value })}></textarea>
    </label>
    <p class="soft small-print">The customer sees the money in 5 to 10 business days. Stripe keeps its fee for the payment.${!facts.payment.livemode && " Test mode: no real money moves."}</p>`;
}

function Answer({ outcome }) {
  const { mood, title, text } = describe(outcome);
  return html`<${Note} mood=${mood} title="${title}.">
    <span>${text}</span>
    ${outcome.refund && html`<span class="after"><${Status} status=${outcome.refund.status} /> <${DashboardLink} id=${outcome.refund.paymentIntent} /></span>`}
  <//>`;
}

function Buttons({ facts, amount, open, outcome, isAsking, close }) {
  const again = outcome ? describe(outcome).again : null;
  const word = outcome ? again : open ? "Ask again" : facts && (facts.payment.refundable > 0 ? `Refund ${amount}` : "Bring the books up to date");
  return html`<div class="buttons">
    <button type="button" class="quiet" onClick=${close}>${outcome || isAsking || open ? "Close" : "Cancel"}</button>
    ${facts && word && html`<button type="submit" class=${open || outcome ? "" : "danger"} disabled=${isAsking} aria-disabled=${isAsking}>${isAsking ? "Asking…" : word}</button>`}
  </div>`;
}
