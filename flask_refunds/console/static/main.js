// The page: its frame, where it is, who is signed in, and the one window that may be open.

import { get } from "./api.js";
import * as draft from "./draft.js";
import { isTest } from "./facts.js";
import { Figures } from "./figures.js";
import { News } from "./news.js";
import { Payment } from "./payment.js";
import { Purchases } from "./purchases.js";
import { RefundDialog } from "./refund_dialog.js";
import { Attention, Refunds } from "./refunds.js";
import { href, parse } from "./router.js";
import * as session from "./session.js";
import { SignIn } from "./sign_in.js";
import { Component, html, render } from "./ui.js";
import { onRefund } from "./watch.js";

const VIEWS = { purchases: Purchases, payment: Payment, refunds: Refunds, attention: Attention, figures: Figures };
const NAV = [["purchases", "Purchases"], ["refunds", "Refunds"], ["attention", "Attention"], ["figures", "Figures"]];

class App extends Component {
  state = { where: parse(), isSignedIn: Boolean(session.token()), wasSignedIn: false, open: null, cases: 0 };

  componentDidMount() {
    window.addEventListener("hashchange", this.move);
    session.onChange(this.followSession);
    onRefund(this.count);
    if (this.state.isSignedIn) this.begin();
  }

  begin() {
    this.count();
    const found = draft.find();
    if (found && !this.state.open) this.setState({ open: { purchaseId: found.purchaseId, draft: found } });
  }

  followSession = () => {
    const isSignedIn = Boolean(session.token());
    this.setState({ isSignedIn, wasSignedIn: this.state.wasSignedIn || this.state.isSignedIn });
    if (isSignedIn) this.begin();
  };

  move = () => {
    const before = this.state.where;
    const where = parse();
    this.setState({ where }, () => {
      if (before.view === where.view && before.id === where.id) return;
      this.count();
      scrollTo(0, 0);
      document.querySelector("h1")?.focus({ preventScroll: true });
    });
  };

  count = async () => {
    try {
      const { totalRefunds } = await get("refunds", { attention: "true", limit: "1" });
      this.setState({ cases: totalRefunds });
    } catch {
      // The views say what is wrong; this is a number beside a word.
    }
  };

  refund = (purchaseId) => this.setState({ open: { purchaseId } });
  close = () => this.setState({ open: null });

  signOut = () => {
    draft.forget();
    session.end();
    this.setState({ wasSignedIn: false, open: null });
  };

  render(props, { where, isSignedIn, wasSignedIn, open, cases }) {
    const View = VIEWS[where.view] ?? Purchases;
    const isShown = isSignedIn || wasSignedIn;
    return html`<a class="skip" href="#content" onClick=${skip}>Skip to the content</a>
      <header class="bar"><div class="inner">
        <span class="brand">Refunds${isTest && html`<span class="status waiting">test mode</span>`}</span>
        <nav aria-label="Views">${NAV.map(([view, word]) => html`<${NavLink} view=${view} word=${word} where=${where} count=${view === "attention" ? cases : 0} />`)}</nav>
        ${isSignedIn && html`<button type="button" class="link" onClick=${this.signOut}>Sign out</button>`}
      </div></header>
      <main id="content" tabindex="-1" class="inner">${isShown ? html`<${View} key=${where.view} id=${where.id} params=${where.params} refund=${this.refund} />` : html`<h1 tabindex="-1">Refunds</h1>`}</main>
      ${isShown && open && html`<${RefundDialog} key=${open.purchaseId} ...${open} onClose=${this.close} onLate=${(item) => this.addNews(toNews(item))} />`}
      ${!isSignedIn && html`<${SignIn} expired=${wasSignedIn} />`}
      <${News} register=${(add) => (this.addNews = add)} />`;
  }
}

const toNews = ({ mood, title, text }) => ({ mood, text: `${title}. ${text}` });

function NavLink({ view, word, where, count }) {
  const isHere = where.view === view || (view === "purchases" && where.view === "payment");
  return html`<a href=${href(view)} aria-current=${isHere ? "page" : undefined}>${word}${count > 0 && html` <span class="badge">${count}<span class="hidden"> open</span></span>`}</a>`;
}

function skip(event) {
  // "#content" would be taken for a view.
  event.preventDefault();
  document.getElementById("content").focus();
}

render(html`<${App} />`, document.getElementById("app"));
