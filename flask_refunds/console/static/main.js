// The page's root component: header, route, session and refund dialog.

import { get } from "./api.js";
import { Boundary } from "./boundary.js";
import { Note } from "./components.js";
import { Dialog } from "./dialog.js";
import * as draft from "./draft.js";
import { Notifications } from "./notifications.js";
import { isTest } from "./page_config.js";
import { Payment } from "./payment.js";
import { onRefundChange } from "./polling.js";
import { Purchases } from "./purchases.js";
import { RefundDialog } from "./refund_dialog.js";
import { Refunds, Reviews } from "./refunds.js";
import { Reports } from "./reports.js";
import { href, parse } from "./router.js";
import * as session from "./session.js";
import { SignIn } from "./sign_in.js";
import { Component, html, render } from "./ui.js";

const VIEWS = { purchases: Purchases, payment: Payment, refunds: Refunds, reviews: Reviews, reports: Reports };
const NAV = [["purchases", "Purchases"], ["refunds", "Refunds"], ["reviews", "Reviews"], ["reports", "Reports"]];

class App extends Component {
  state = { route: parse(), isSignedIn: session.isSignedIn(), dialog: null, reviewCount: 0, user: null };

  componentDidMount() {
    window.addEventListener("hashchange", this.followRoute);
    session.onChange(this.followSession);
    onRefundChange(this.countReviews);
    if (this.state.isSignedIn) this.start();
  }

  start() {
    this.countReviews();
    this.loadUser();
    const found = draft.load();
    if (found?.purchaseId && !this.state.dialog) this.setState({ dialog: { purchaseId: found.purchaseId, draft: found } });
  }

  followSession = () => {
    const isSignedIn = session.isSignedIn();
    this.setState({ isSignedIn });
    if (isSignedIn) this.start();
  };

  followRoute = () => {
    const previous = this.state.route;
    const route = parse();
    this.setState({ route }, () => {
      if (previous.view === route.view && previous.id === route.id) return;
      this.countReviews();
      scrollTo(0, 0);
      document.querySelector("h1")?.focus({ preventScroll: true });
    });
  };

  countReviews = async () => {
    try {
      const { totalRefunds } = await get("refunds", { needsReview: "true", limit: "1" });
      this.setState({ reviewCount: totalRefunds });
    } catch {
      // The views show errors. This number is only a badge.
    }
  };

  loadUser = async () => {
    try {
      this.setState({ user: (await get("me")).user });
    } catch {
      this.setState({ user: null });
    }
  };

  openRefundDialog = (purchaseId) => this.setState({ dialog: { purchaseId } });
  closeDialog = () => this.setState({ dialog: null });
  showLateResult = (result) => this.addNotification(result);

  brokenDialog = ({ error, retry }) =>
    html`<${Dialog} label="broken-heading" onClose=${this.closeDialog}>
      <h2 id="broken-heading">Refund</h2>
      <${Note} severity="error" role="alert" title="This dialog can't be shown.">${String(error?.message ?? error)}. A refund that was sent continues.<//>
      <div class="buttons">
        <button type="button" class="secondary" onClick=${this.closeDialog}>Close</button>
        <button type="button" onClick=${retry}>Show again</button>
      </div>
    <//>`;

  signOut = () => {
    draft.clear();
    this.setState({ dialog: null, user: null });
    session.signOut();
  };

  render(props, { route, isSignedIn, dialog, reviewCount, user }) {
    const View = Object.hasOwn(VIEWS, route.view) ? VIEWS[route.view] : Purchases;
    const isVisible = isSignedIn || session.wasSignedIn();
    return html`<a class="skip" href="#content" onClick=${skipToContent}>Skip to content</a>
      <header class="bar"><div class="container">
        <span class="brand">Refunds${isTest && html`<span class="status warning">test<span class="wide"> mode</span></span>`}</span>
        <nav aria-label="Views">${NAV.map(([view, label]) => html`<${NavLink} view=${view} label=${label} route=${route} count=${view === "reviews" ? reviewCount : 0} />`)}</nav>
        <div class="account">
          ${isSignedIn && user && html`<span class="muted" title=${user.email ?? user.id}><span class="visually-hidden">Signed in as </span>${user.name ?? user.email ?? user.id}</span>`}
          ${session.getToken() && html`<button type="button" class="link" onClick=${this.signOut}>Sign out</button>`}
        </div>
      </div></header>
      <main id="content" tabindex="-1" class="container">${isVisible
        ? html`<${Boundary} key=${`${route.view}/${route.id}`}><${View} key=${route.view} id=${route.id} params=${route.params} openRefundDialog=${this.openRefundDialog} /><//>`
        : html`<h1 tabindex="-1">Refunds</h1>`}</main>
      ${isVisible && dialog && html`<${Boundary} key=${dialog.purchaseId} fallback=${this.brokenDialog}>
        <${RefundDialog} ...${dialog} onClose=${this.closeDialog} onLateResult=${this.showLateResult} />
      <//>`}
      ${!isSignedIn && html`<${SignIn} />`}
      <${Notifications} register=${(add) => (this.addNotification = add)} />`;
  }
}

function NavLink({ view, label, route, count }) {
  const isCurrent = route.view === view || (view === "purchases" && route.view === "payment");
  return html`<a href=${href(view)} aria-current=${isCurrent ? "page" : undefined}>${label}${count > 0 && html` <span class="badge">${count}<span class="visually-hidden"> open</span></span>`}</a>`;
}

function skipToContent(event) {
  // The router would take "#content" for a view.
  event.preventDefault();
  document.getElementById("content").focus();
}

render(html`<${App} />`, document.getElementById("app"));
