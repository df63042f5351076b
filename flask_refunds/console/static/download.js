// The button that downloads a list as CSV.

import { loadAll, MAX_ROWS, save, toCsv } from "./csv.js";
import { number } from "./format.js";
import { errorMessage } from "./messages.js";
import { Component, html } from "./ui.js";

/** @prop list what `loadAll` needs; @prop columns as for `toCsv`; @prop name the file's name; @prop total the number of items */
export class Download extends Component {
  state = { done: null, error: null };

  componentWillUnmount() {
    this.request?.abort();
  }

  start = async () => {
    const { list, columns, name } = this.props;
    this.request = new AbortController();
    this.setState({ done: 0, error: null });
    try {
      const { items, names } = await loadAll(list, this.request.signal, (done) => this.setState({ done }));
      save(`${name}-${new Date().toISOString().slice(0, 10)}.csv`, toCsv(columns, items, names));
    } catch (error) {
      if (error.name !== "AbortError") this.setState({ error });
    }
    this.setState({ done: null });
  };

  render({ total }, { done, error }) {
    const isBusy = done !== null;
    const extent = total > MAX_ROWS ? ` (first ${number(MAX_ROWS)})` : "";
    return html`<span class="download"><span role="status">${isBusy && `Loading ${number(done)} of ${number(Math.min(total, MAX_ROWS))}…`}${error && errorMessage(error)}</span>
      <button type="button" class="secondary small" disabled=${isBusy} onClick=${this.start}>Download CSV${extent}</button></span>`;
  }
}
