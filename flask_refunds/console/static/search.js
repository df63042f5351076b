// What lists are searched with.

import { replaceParams } from "./router.js";
import { Component, html } from "./ui.js";

const PAUSE_MS = 250;

/** A field that searches when the typing pauses, and at once on Enter. */
export class Search extends Component {
  state = { text: this.props.value ?? "" };

  componentDidUpdate({ value }) {
    if (value !== this.props.value && (this.props.value ?? "") !== this.state.text.trim()) this.setState({ text: this.props.value ?? "" });
  }

  componentWillUnmount() {
    clearTimeout(this.pause);
  }

  type = ({ currentTarget }) => {
    this.setState({ text: currentTarget.value });
    clearTimeout(this.pause);
    this.pause = setTimeout(this.search, PAUSE_MS);
  };

  search = () => {
    clearTimeout(this.pause);
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

export const Select = ({ label, options, value = "", onChoose }) =>
  html`<label class="field">
    <span>${label}</span>
    <select value=${value} onChange=${(event) => onChoose(event.currentTarget.value)}>
      ${options.map(([key, word]) => html`<option value=${key} selected=${key === value}>${word}</option>`)}
    </select>
  </label>`;

/** From a day to a day, both of the viewer's own. */
export function DateRange({ params }) {
  const day = (name, label) =>
    html`<label class="field">
      <span>${label}</span>
      <input type="date" value=${params[name] ?? ""} max="2099-12-31" onChange=${(event) => replaceParams({ ...params, [name]: event.currentTarget.value })} />
    </label>`;
  return html`${day("from", "From")}${day("to", "To")}`;
}
