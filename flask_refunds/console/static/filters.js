// A form that filters a view, and its fields.

import { setParam } from "./router.js";
import { Component, html } from "./ui.js";

const TYPING_PAUSE_MS = 250;

export const Filters = ({ children }) =>
  html`<form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>${children}</form>`;

/** A search field. It searches on Enter, and when typing pauses. */
export class SearchField extends Component {
  state = { text: this.props.value ?? "" };

  componentDidUpdate({ value }) {
    if (value !== this.props.value && (this.props.value ?? "") !== this.state.text.trim()) this.setState({ text: this.props.value ?? "" });
  }

  componentWillUnmount() {
    clearTimeout(this.timer);
  }

  type = ({ currentTarget }) => {
    this.setState({ text: currentTarget.value });
    clearTimeout(this.timer);
    this.timer = setTimeout(this.search, TYPING_PAUSE_MS);
  };

  search = () => {
    clearTimeout(this.timer);
    this.props.onSearch(this.state.text.trim());
  };

  render({ label, placeholder }, { text }) {
    return html`<label class="field wide">
      <span>${label}</span>
      <input type="search" value=${text} placeholder=${placeholder} spellcheck=${false} autocapitalize="off" autocomplete="off"
        onInput=${this.type} onKeyDown=${(event) => event.key === "Enter" && this.search()} />
    </label>`;
  }
}

/** The API's parameters for what was typed into the search field: a payment, or else a customer. */
export function toSearch(typed = "") {
  const text = typed.trim();
  return /^(pi|ch|py|cs)_/.test(text) ? { paymentIntent: text } : { user: text };
}

export const CustomerSearch = ({ value }) =>
  html`<${SearchField} label="Customer or payment" value=${value} placeholder="E-mail, customer ID or pi_…" onSearch=${setParam("q")} />`;

export const SearchHint = () => html`<p class="muted">You can search for a customer's whole e-mail address or ID, and for a payment: pi_…, ch_… or cs_….</p>`;

export const SelectField = ({ label, options, value = "", onSelect }) =>
  html`<label class="field">
    <span>${label}</span>
    <select value=${value} onChange=${(event) => onSelect(event.currentTarget.value)}>
      ${options.map(([key, text]) => html`<option value=${key} selected=${key === value}>${text}</option>`)}
    </select>
  </label>`;

/** The first and the last day of a range, in the browser's time zone. */
export function DateRange({ params }) {
  const day = (name, label) =>
    html`<label class="field">
      <span>${label}</span>
      <input type="date" value=${params[name] ?? ""} max="2099-12-31" onChange=${(event) => setParam(name)(event.currentTarget.value)} />
    </label>`;
  return html`${day("from", "From")}${day("to", "To")}`;
}
