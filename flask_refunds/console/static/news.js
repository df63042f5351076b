// What happened by itself: a pending refund that settled, an answer that came after its window was closed.

import { Component, html } from "./ui.js";
import { onRefund } from "./watch.js";
import { MOOD, news } from "./words.js";

const KEPT = 3;

export class News extends Component {
  state = { items: [] };

  componentDidMount() {
    this.props.register((item) => this.add(item));
    this.stop = onRefund((refund, before) => before && this.add({ mood: MOOD[refund.status], text: news(refund), payment: refund.paymentIntent }));
  }

  componentWillUnmount() {
    this.stop();
  }

  add(item) {
    this.setState(({ items }) => ({ items: [...items, { ...item, key: Symbol("news") }].slice(-KEPT) }));
  }

  drop = (key) => this.setState(({ items }) => ({ items: items.filter((each) => each.key !== key) }));

  render(props, { items }) {
    return html`<div class="news" role="log" aria-live="polite" aria-label="News">
      ${items.map(({ key, mood, text, payment }) => html`<div key=${key} class="note ${mood}">
        <span>${text}${payment && html` <a href="#/payment/${payment}">Look</a>`}</span>
        <button type="button" class="close" aria-label="Dismiss" onClick=${() => this.drop(key)}>×</button>
      </div>`)}
    </div>`;
  }
}
