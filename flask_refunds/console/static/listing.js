// A list that is found by a query and read page by page, to its end as the reader scrolls.

import { get } from "./api.js";
import { number } from "./format.js";
import { Trouble, Waiting } from "./parts.js";
import * as session from "./session.js";
import { Component, html } from "./ui.js";
import { onRefund } from "./watch.js";

const LIMIT = 50;

/**
 * @prop path, params what is asked for
 * @prop kind, total the names of the items and of their number in the answer
 * @prop noun (count) => words
 * @prop children (items, busy) => what shows them
 * @prop update (item, refund) => the item as it is after news of a refund
 * @prop empty what to say where nothing was found
 */
export class Listing extends Component {
  state = { items: [], next: null, total: null, error: null, busy: true };

  componentDidMount() {
    this.load();
    this.stop = [
      session.onChange(() => session.token() && this.state.error && this.load()),
      onRefund((refund) => this.setState(({ items }) => ({ items: items.map((item) => this.props.update(item, refund)) }))),
    ];
  }

  componentDidUpdate(before) {
    if (JSON.stringify(before.params) !== JSON.stringify(this.props.params)) this.load();
  }

  componentWillUnmount() {
    this.stop.forEach((stop) => stop());
    this.stopWaiting();
    this.seer?.disconnect();
  }

  stopWaiting() {
    this.waiting?.abort();
    this.waiting = new AbortController();
    return this.waiting.signal;
  }

  load = () => this.read({}, []);
  more = () => !this.state.busy && this.state.next && this.read({ after: this.state.next }, this.state.items);

  async read(cursor, before) {
    const signal = this.stopWaiting();
    const { path, params, kind, total } = this.props;
    this.setState({ busy: true, error: null });
    try {
      const answer = await get(path, { ...params, ...cursor, limit: String(LIMIT) }, signal);
      this.setState({ items: [...before, ...answer[kind]], next: answer.nextCursor, total: answer[total], busy: false });
    } catch (error) {
      if (error.name === "AbortError") return;
      this.setState({ error, busy: false, ...(before.length ? {} : { items: [], next: null, total: null }) });
    }
  }

  /** The end of the list comes near: read on. */
  see = (element) => {
    this.seer?.disconnect();
    if (!element) return;
    this.seer = new IntersectionObserver(([entry]) => entry.isIntersecting && !this.state.error && this.more(), { rootMargin: "600px" });
    this.seer.observe(element);
  };

  render({ children, noun, empty }, { items, next, total, error, busy }) {
    const nothing = !busy && !error && items.length === 0;
    return html`<section aria-label="Results">
      <p class="count" role="status">${total === null ? " " : `${number(total)} ${noun(total)}`}</p>
      ${items.length > 0 && children(items, busy)}
      ${nothing && html`<div class="empty">${empty}</div>`}
      ${error && html`<${Trouble} error=${error} again=${items.length ? this.more : this.load} />`}
      ${busy && html`<${Waiting}>Looking…<//>`}
      ${next && !busy && html`<p class="more" key=${next} ref=${this.see}><button type="button" class="quiet" onClick=${this.more}>Show more</button></p>`}
    </section>`;
  }
}
