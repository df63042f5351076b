// A modal window: the browser's own <dialog>, so that focus, Esc and the page behind it are the browser's care.

import { Component, html } from "./ui.js";

export class Dialog extends Component {
  componentDidMount() {
    this.opener = document.activeElement;
    this.element.showModal();
  }

  componentWillUnmount() {
    this.element.close();
    // Where what opened it is gone (a purchase that is refunded has no button), the page's heading stands in.
    const target = this.opener?.isConnected && this.opener !== document.body ? this.opener : document.querySelector("h1");
    target?.focus();
  }

  render({ label, onClose, children, name = "" }) {
    return html`<dialog ref=${(element) => (this.element = element)} class=${name} aria-labelledby=${label}
      onCancel=${(event) => { event.preventDefault(); onClose(); }}>${children}</dialog>`;
  }
}
