// The amount of a refund: all that is left of the payment, or a part of it if the shop allows that.

import { Note, purchaseTitle } from "./components.js";
import { money, parseAmount, plainAmount, smallestAmount } from "./format.js";
import { isSettled } from "./polling.js";
import { html } from "./ui.js";

/** Whether a part can be chosen. The preview has the next refund's number only if the shop allows parts. */
export const allowsPart = ({ number, payment }) => number !== undefined && payment.refundable > 0;

/** Whether an open refund bars the next one. A part that is pending is reserved, and what it leaves can be refunded. */
export const isBarring = (preview, refund) => refund.status === "processing" || !allowsPart(preview);

/** The chosen amount in minor units, or `null` if the input isn't one. Without an input, it is all that is left. */
export function chosenAmount({ payment }, { amount }) {
  const chosen = amount === null ? payment.refundable : parseAmount(amount, payment.currency);
  return chosen !== null && chosen <= payment.refundable ? chosen : null;
}

/**
 * The fields of the request for the chosen part: what the admin saw, too. All that is left needs none, unless it can
 * become more than the admin saw: a part that is open gives its amount back if it fails.
 */
export function partFields(preview, state) {
  const amount = chosenAmount(preview, state);
  const { refundable } = preview.payment;
  if (!allowsPart(preview) || (amount === refundable && preview.refunds.every(isSettled))) return {};
  return { amount, refundable, number: preview.number, markRefunded: state.closes };
}

/** The fields of the request that made this refund. Only an equal request resumes a part. */
export function repeatedFields({ part, reason, note }) {
  if (!part) return {};
  const { amount, refundable, number, markRefunded } = part;
  return { amount, refundable, markRefunded, reason, note, ...(number && { number }) };
}

/** Whether a refund, once it has succeeded, leaves none of its purchases completed. */
export const returnsAll = ({ part }) => !part || part.markRefunded || part.amount >= part.refundable;

export function AmountField({ preview, purchaseId, state, update }) {
  const { refundable, currency } = preview.payment;
  const amount = chosenAmount(preview, state);
  const isPart = amount !== null && amount < refundable;
  const smallest = smallestAmount(currency);
  const purchase = preview.purchases.find(({ _refunds }) => _refunds.id === purchaseId)?._refunds;
  return html`<label class="field"><span>Amount <small class="muted">in ${currency.toUpperCase()}</small></span>
      <input inputmode="decimal" autocomplete="off" value=${state.amount ?? plainAmount(refundable, currency)} disabled=${state.isSending}
        aria-describedby="amount-hint" aria-invalid=${amount === null ? "true" : "false"} onInput=${(event) => update({ amount: event.currentTarget.value })} />
    </label>
    <div id="amount-hint" role="status">
      ${amount === null && html`<${Note} severity="error">Enter an amount of at most ${plainAmount(refundable, currency)}${smallest > 1 && `, a multiple of ${plainAmount(smallest, currency)}`}.<//>`}
      ${isPart && html`<p class="muted small-print">${money(refundable - amount, currency)} is left after this refund.${purchase && preview.purchases.length > 1 && ` It is for “${purchaseTitle(purchase)}”: the other purchases keep their status.`}</p>`}
    </div>
    ${isPart && html`<label class="check">
      <input type="checkbox" checked=${state.closes} disabled=${state.isSending} onChange=${(event) => update({ closes: event.currentTarget.checked })} />
      <span>Close the purchase <small class="muted">mark it as refunded and keep the rest</small></span>
    </label>`}`;
}
