// Forms for decisions about a refund: to close its review, and to cancel it while it waits for the customer.

import { post } from "./api.js";
import { Loading, Note } from "./components.js";
import * as draft from "./draft.js";
import { decisionError, describeResult } from "./messages.js";
import { notify, pollUntilSettled } from "./polling.js";
import { Component, html } from "./ui.js";

const MAX_COMMENT_LENGTH = 500;
const DECISIONS = { failed: "The customer received nothing", retry: "The customer received nothing: refund again" };

/** A subclass has the `action` that ends the API's path. */
class DecisionForm extends Component {
  kept = this.findKept();
  state = { comment: this.kept?.comment ?? "", isSending: false, result: null, error: null };

  /** The comment that the admin wrote before a new sign-in. */
  findKept() {
    const found = draft.load();
    return found?.refundId === this.props.refund.id && found.action === this.constructor.action ? found : null;
  }

  write = ({ currentTarget: { value: comment } }) => {
    draft.save({ refundId: this.props.refund.id, action: this.constructor.action, comment });
    this.setState({ comment });
  };

  /** Send a decision with the comment. Listeners hear of the refund as it is then. */
  async send(event, fields = {}) {
    event.preventDefault();
    if (this.state.isSending) return;
    const { refund } = this.props;
    const panel = event.currentTarget.closest(".panel");
    this.setState({ isSending: true, result: null, error: null });
    try {
      const result = await post(`refunds/${encodeURIComponent(refund.id)}/${this.constructor.action}`, { ...fields, comment: this.state.comment });
      draft.clear();
      this.setState({ result });
      this.decided(result);
      // The form goes, and would leave the keyboard at the beginning of the page.
      panel.tabIndex = -1;
      panel.focus();
    } catch (error) {
      this.setState({ error });
    }
    this.setState({ isSending: false });
  }

  /** The field for the comment, what came of the request, and the button. */
  fields(label, button, buttonClass = "") {
    const { comment, isSending, error } = this.state;
    return html`<label class="field"><span>${label} <small class="muted">kept in the refund's history</small></span>
        <textarea rows="2" required maxlength=${MAX_COMMENT_LENGTH} value=${comment} disabled=${isSending} onInput=${this.write}></textarea>
      </label>
      <div role="status">
        ${isSending && html`<${Loading}>Waiting for the shop…<//>`}
        ${error && html`<${Note} severity="error">${decisionError(error)}<//>`}
      </div>
      <button type="submit" class=${buttonClass} disabled=${isSending || !comment.trim()}>${button}</button>`;
  }
}

export class Resolve extends DecisionForm {
  static action = "resolve";
  state = { ...this.state, decision: this.isUnknown() ? "failed" : "dismiss", checked: false };

  isUnknown() {
    return this.props.refund.status === "processing";
  }

  decided({ refund }) {
    notify(refund);
    pollUntilSettled(refund);
  }

  submit = (event) => {
    const { decision, checked } = this.state;
    this.send(event, { decision, checked });
  };

  render({ refund }, { decision, checked, isSending, result }) {
    const isRepeatable = result && decision === "retry" && describeResult(result).button;
    if (result && !isRepeatable) return html`<${Result} decision=${decision} result=${result} />`;
    if (refund.isClosed && !isSending) return html`<${Result} />`;
    return html`<details open=${Boolean(this.kept)}><summary>Close this review</summary>
      <form class="resolve" onSubmit=${this.submit} aria-busy=${isSending ? "true" : "false"}>
        ${this.isUnknown() && html`<label class="field"><span>Decision</span>
            <select value=${decision} disabled=${isSending} onChange=${(event) => this.setState({ decision: event.currentTarget.value })}>
              ${Object.entries(DECISIONS).map(([key, text]) => html`<option value=${key} selected=${key === decision}>${text}</option>`)}
            </select>
          </label>
          <label class="check">
            <input type="checkbox" checked=${checked} disabled=${isSending} onChange=${(event) => this.setState({ checked: event.currentTarget.checked })} />
            <span>I looked in Stripe's Dashboard: this refund isn't there</span>
          </label>`}
        ${isRepeatable && !isSending && html`<${Result} decision=${decision} result=${result} />`}
        ${this.fields("What you found", decision === "retry" ? "Refund again" : "Close the review", decision === "retry" ? "danger" : "")}
      </form>
    </details>`;
  }
}

function Result({ decision, result }) {
  const { severity, title, text } = decision === "retry" ? describeResult(result) : { severity: "success", title: "Review closed", text: "" };
  return html`<${Note} severity=${severity} title="${title}." role="status">${text}<//>`;
}

/** Only a refund that waits for the customer can be canceled. */
export class Cancel extends DecisionForm {
  static action = "cancel";

  decided({ refund }) {
    notify(refund, this.props.refund);
  }

  render({ refund }, { isSending }) {
    if (refund.status !== "requires_action") return null;
    return html`<details open=${Boolean(this.kept)}><summary>Cancel refund…</summary>
      <form class="resolve" onSubmit=${(event) => this.send(event)} aria-busy=${isSending ? "true" : "false"}>
        <p class="muted small-print">The customer then gets no money from this refund. You can refund the purchase again, or pay in another way.</p>
        ${this.fields("Why", "Cancel the refund", "danger")}
      </form>
    </details>`;
  }
}
