// Notifications of changes that happen in the background, such as a pending refund that settles.

import { describeChange, SEVERITY } from "./messages.js";
import { onRefundChange } from "./polling.js";
import { Component, html } from "./ui.js";

const MAX_SHOWN = 3;

export class Notifications extends Component {
  state = { items: [] };

  componentDidMount() {
    this.props.register((item) => this.add(item));
    this.unsubscribe = onRefundChange(
      (refund, previous) => previous && this.add({ severity: SEVERITY[refund.status], text: describeChange(refund), payment: refund.paymentIntent }),
    );
  }

  componentWillUnmount() {
    this.unsubscribe();
  }

  add(item) {
    this.setState(({ items }) => ({ items: [...items, { ...item, key: Symbol("notification") }].slice(-MAX_SHOWN) }));
  }

  dismiss = (key) => this.setState(({ items }) => ({ items: items.filter((each) => each.key !== key) }));

  render(props, { items }) {
    return html`<div class="notifications" role="log" aria-live="polite" aria-label="Notifications">
      ${items.map(({ key, severity, text, payment }) => html`<div key=${key} class="note ${severity}">
        <span>${text}${payment && html` <a href="#/payment/${payment}">View payment</a>`}</span>
        <button type="button" class="close" aria-label="Dismiss" onClick=${() => this.dismiss(key)}>×</button>
      </div>`)}
    </div>`;
  }
}
