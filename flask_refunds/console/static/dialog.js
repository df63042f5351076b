// A modal dialog. The browser's <dialog> traps the focus, handles Esc and disables the page behind it.

import { Component, html } from "./ui.js";

export class Dialog extends Component {
  componentDidMount() {
    this.opener = document.activeElement;
    this.element.showModal();
  }

  componentWillUnmount() {
    this.element.close();
    // The opener may be gone: a refunded purchase has no button.
    const target = this.opener?.isConnected && this.opener !== document.body ? this.opener : document.querySelector("h1");
    target?.focus();
  }

  /** After a second Esc, browsers close a dialog that wasn't to be closed, such as the sign-in. */
  stayOpen = () => this.element?.isConnected && !this.element.open && this.element.showModal();

  render({ label, onClose, children, name = "" }) {
    return html`<dialog ref=${(element) => (this.element = element)} class=${name} aria-labelledby=${label}
      onCancel=${(event) => { event.preventDefault(); onClose(); }} onClose=${this.stayOpen}>${children}</dialog>`;
  }
}
