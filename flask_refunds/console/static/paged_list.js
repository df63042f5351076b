// A list of search results. It loads the next page when the reader scrolls to its end.

import { get } from "./api.js";
import { ErrorNote, Loading } from "./components.js";
import { DataView } from "./data_view.js";
import { Download } from "./download.js";
import { number } from "./format.js";
import { html } from "./ui.js";

const LIMIT = 50;

/**
 * @prop path, params the API request
 * @prop items, total the names of the items and of their number in the response
 * @prop noun the singular of the items
 * @prop children (items, isLoading, data) => content
 * @prop select (item in the response) => the item to show
 * @prop update (item, refund) => the item after a change of the refund
 * @prop reload (refund) => the refund's items as the API has them now, if it knows more than `update`
 * @prop csv the columns of a download, as for `toCsv`
 * @prop empty the content if nothing was found
 */
export class PagedList extends DataView {
  query = ({ params }) => params;

  async fetch(signal, cursor) {
    const { path, params, items, total, select = (item) => item } = this.props;
    const page = await get(path, { ...params, after: cursor, limit: String(LIMIT) }, signal);
    const before = cursor ? this.state.data : { items: [], total: page[total], isLowerBound: page.totalIsLowerBound };
    return {
      ...before, items: [...before.items, ...page[items].map(select)], nextCursor: page.nextCursor, names: { ...before.names, ...page.names },
    };
  }

  async refundChanged(refund) {
    const { update, reload } = this.props;
    this.replaceItems((item) => update(item, refund));
    if (!reload) return;
    const found = await reload(refund).catch(() => []);
    this.replaceItems((item) => found.find((each) => each?.id === item?.id) ?? item);
  }

  replaceItems(replace) {
    this.setState(({ data }) => data && { data: { ...data, items: data.items.map(replace) } });
  }

  componentWillUnmount() {
    super.componentWillUnmount();
    this.observer?.disconnect();
  }

  loadMore = () => !this.state.isLoading && this.load({ cursor: this.state.data.nextCursor });

  /** Load the next page before the "Show more" button becomes visible. */
  observe = (element) => {
    this.observer?.disconnect();
    if (!element) return;
    this.observer = new IntersectionObserver(([entry]) => entry.isIntersecting && !this.state.error && this.loadMore(), { rootMargin: "600px" });
    this.observer.observe(element);
  };

  render(props, { data, error, isLoading }) {
    const { children, noun, empty, csv, path, params, select = (item) => item } = props;
    const { items, total, isLowerBound, nextCursor } = data ?? { items: [] };
    return html`<section aria-label="Results">
      <div class="list-head">
        <p class="count" role="status">${data ? `${number(total)}${isLowerBound ? "+" : ""} ${noun}${total === 1 ? "" : "s"}` : " "}</p>
        ${csv && items.length > 0 && html`<${Download} key=${JSON.stringify(params)} list=${{ path, params, items: props.items, select }} columns=${csv} name="${noun}s" total=${isLowerBound ? Infinity : total} />`}
      </div>
      ${items.length > 0 && children(items, isLoading, data)}
      ${data && !isLoading && !error && items.length === 0 && html`<div class="empty">${empty}</div>`}
      ${error && html`<${ErrorNote} error=${error} onRetry=${nextCursor ? this.loadMore : () => this.load()} />`}
      ${isLoading && html`<${Loading}>Loading…<//>`}
      ${nextCursor && !isLoading && html`<p class="more" key=${nextCursor} ref=${this.observe}><button type="button" class="secondary" onClick=${this.loadMore}>Show more</button></p>`}
    </section>`;
  }
}
