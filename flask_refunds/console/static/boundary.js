// Error boundaries: a component that fails is replaced, and the rest of the page stays.

import { Note } from "./components.js";
import { Component, html } from "./ui.js";

/** In place of one refund of several. */
export const brokenRefund = ({ error, retry }) => message("This refund can't be shown.", error, retry);

/** @prop fallback ({error, retry}) => content; by default a message and a button */
export class Boundary extends Component {
  state = { error: null };

  static getDerivedStateFromError(error) {
    return { error };
  }

  componentDidCatch(error) {
    console.error(error);
  }

  retry = () => this.setState({ error: null });

  render({ children, fallback = brokenView }, { error }) {
    return error ? fallback({ error, retry: this.retry }) : children;
  }
}

const brokenView = ({ error, retry }) => html`<h1 tabindex="-1">Refunds</h1>${message("This view can't be shown.", error, retry)}`;

const message = (title, error, retry) =>
  html`<${Note} severity="error" role="alert" title=${title}>
    ${String(error?.message ?? error)} <button type="button" class="link" onClick=${retry}>Show again</button>
  <//>`;
