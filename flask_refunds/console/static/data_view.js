// The base class of components that load data from the API.

import { ErrorNote, Loading } from "./components.js";
import { onRefundChange } from "./polling.js";
import * as session from "./session.js";
import { Component, html } from "./ui.js";

/**
 * Loads `state.data` when it is mounted, when its query changes, and after a failure when the admin signs in.
 * A subclass defines `fetch(signal, cursor)`, and if needed `query(props)` and `refundChanged(refund)`.
 */
export class DataView extends Component {
  state = { data: null, error: null, isLoading: true };

  query() {}
  refundChanged() {}

  componentDidMount() {
    this.load();
    this.subscriptions = [
      session.onChange(() => session.isSignedIn() && this.state.error && this.load()),
      onRefundChange((refund) => this.refundChanged(refund)),
    ];
  }

  componentDidUpdate(previous) {
    if (JSON.stringify(this.query(previous)) !== JSON.stringify(this.query(this.props))) this.load({ keepsData: false });
  }

  componentWillUnmount() {
    this.subscriptions.forEach((unsubscribe) => unsubscribe());
    this.request.abort();
  }

  /** @param keepsData whether to show the data of before if loading fails */
  async load({ keepsData = true, cursor } = {}) {
    this.request?.abort();
    this.request = new AbortController();
    this.setState({ error: null, isLoading: true });
    try {
      this.setState({ data: await this.fetch(this.request.signal, cursor), isLoading: false });
    } catch (error) {
      if (error.name !== "AbortError") this.setState(({ data }) => ({ data: keepsData ? data : null, error, isLoading: false }));
    }
  }

  /** The error or the loading indicator, for the subclass's `render`. */
  loadStatus(label = "Loading…") {
    const { data, error } = this.state;
    if (error) return html`<${ErrorNote} error=${error} onRetry=${() => this.load()} />`;
    return !data && html`<${Loading}>${label}<//>`;
  }
}
