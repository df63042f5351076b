// The sign-in dialog. It leads to your app's sign-in page or, without one, asks for a token.

import { Note } from "./components.js";
import { Dialog } from "./dialog.js";
import { loginUrl, usesSession } from "./page_config.js";
import * as session from "./session.js";
import { Component, html } from "./ui.js";

const PROBLEMS = {
  expired: "Your session expired. Your input is kept.",
  invalid: loginUrl ? "Your sign-in isn't valid. Sign in again." : "This token isn't valid. Check that you copied all of it.",
};

/** Your app's sign-in page, with the address to return to. The token is never in a URL. */
function signInUrl() {
  const url = new URL(loginUrl, location.origin);
  url.searchParams.set("next", location.pathname + location.search + location.hash);
  return url.href;
}

export class SignIn extends Component {
  state = { text: "" };

  submit = (event) => {
    event.preventDefault();
    if (usesSession) return session.resume();
    const token = this.state.text.trim().replace(/^.*\s/, "");
    if (token) session.setToken(token);
  };

  render(props, { text }) {
    const problem = PROBLEMS[session.signInProblem()];
    return html`<${Dialog} label="sign-in-heading" name="narrow" onClose=${() => {}}>
      <form onSubmit=${this.submit}>
        <h2 id="sign-in-heading">Sign in</h2>
        ${problem && html`<${Note} severity="warning" role="alert">${problem}<//>`}
        ${loginUrl && html`<p>This page is for admins.</p>`}
        ${!loginUrl && usesSession && html`<p>Sign in to your app in another tab, then continue here.</p>`}
        ${!loginUrl && !usesSession && html`<${TokenField} text=${text} onInput=${(value) => this.setState({ text: value })} />`}
        <div class="buttons">
          ${loginUrl
            ? html`<a class="button" href=${signInUrl()} onClick=${(event) => (event.currentTarget.href = signInUrl())}>Sign in</a>`
            : html`<button type="submit" disabled=${!usesSession && !text.trim()}>Continue</button>`}
        </div>
      </form>
    <//>`;
  }
}

const TokenField = ({ text, onInput }) =>
  html`<label class="field"><span>Admin bearer token</span>
      <textarea rows="4" class="code" autocomplete="off" spellcheck=${false} value=${text} onInput=${(event) => onInput(event.currentTarget.value)}></textarea>
    </label>
    <p class="muted small-print">The token is kept in this tab and deleted when you close it.</p>`;
