// Resolves a refund that needs review: the form, and what came of it.

import { post } from "./api.js";
import { Loading, Note } from "./components.js";
import { describeResult, errorMessage } from "./messages.js";
import { notify, pollUntilSettled } from "./polling.js";
import { Component, html } from "./ui.js";

const MAX_COMMENT_LENGTH = 500;
const DECISIONS = { failed: "The customer received nothing", retry: "The customer received nothing: refund again" };

export class Resolve extends Component {
  state = { decision: this.isUnknown() ? "failed" : "dismiss", comment: "", checked: false, isSending: false, result: null, error: null };

  isUnknown() {
    return this.props.refund.status === "processing";
  }

  send = async (event) => {
    event.preventDefault();
    if (this.state.isSending) return;
    const { decision, comment, checked } = this.state;
    this.setState({ isSending: true, error: null });
    try {
      const result = await post(`refunds/${encodeURIComponent(this.props.refund.id)}/resolve`, { decision, comment, checked });
      this.setState({ result });
      notify(result.refund);
      pollUntilSettled(result.refund);
    } catch (error) {
      this.setState({ error });
    }
    this.setState({ isSending: false });
  };

  render(props, { decision, comment, checked, isSending, result, error }) {
    if (result) return html`<${Result} decision=${decision} result=${result} />`;
    return html`<details><summary>Close this review</summary>
      <form class="resolve" onSubmit=${this.send} aria-busy=${isSending ? "true" : "false"}>
        ${this.isUnknown() && html`<label class="field"><span>Decision</span>
            <select value=${decision} disabled=${isSending} onChange=${(event) => this.setState({ decision: event.currentTarget.value })}>
              ${Object.entries(DECISIONS).map(([key, text]) => html`<option value=${key} selected=${key === decision}>${text}</option>`)}
            </select>
          </label>
          <label class="check">
            <input type="checkbox" checked=${checked} disabled=${isSending} onChange=${(event) => this.setState({ checked: event.currentTarget.checked })} />
            <span>I looked in Stripe's Dashboard: this refund isn't there</span>
          </label>`}
        <label class="field"><span>What you found <small class="muted">kept in the refund's history</small></span>
          <textarea rows="2" required maxlength=${MAX_COMMENT_LENGTH} value=${comment} disabled=${isSending} onInput=${(event) => this.setState({ comment: event.currentTarget.value })}></textarea>
        </label>
        <div role="status">
          ${isSending && html`<${Loading}>Waiting for the shop…<//>`}
          ${error && html`<${Note} severity="error">${errorMessage(error)}<//>`}
        </div>
        <button type="submit" class=${decision === "retry" ? "danger" : ""} disabled=${isSending || !comment.trim()}>${decision === "retry" ? "Refund again" : "Close the review"}</button>
      </form>
    </details>`;
  }
}

function Result({ decision, result }) {
  const { severity, title, text } = decision === "retry" ? describeResult(result) : { severity: "success", title: "Review closed", text: "" };
  return html`<${Note} severity=${severity} title="${title}." role="status">${text}<//>`;
}
