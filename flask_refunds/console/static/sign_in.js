// Getting a token: from the host's own sign-in page, or by pasting one.

import { Dialog } from "./dialog.js";
import { loginUrl } from "./facts.js";
import { Note } from "./parts.js";
import * as session from "./session.js";
import { Component, html } from "./ui.js";

/** The host's sign-in page, told where to come back to. The token itself never stands in a URL. */
function signInUrl() {
  const url = new URL(loginUrl, location.origin);
  url.searchParams.set("next", location.pathname + location.search + location.hash);
  return url.href;
}

export class SignIn extends Component {
  state = { text: "" };

  submit = (event) => {
    event.preventDefault();
    const token = this.state.text.trim().replace(/^Bearer\s+/i, "");
    if (token) session.begin(token);
  };

  render({ expired }, { text }) {
    return html`<${Dialog} label="sign-in-heading" name="narrow" onClose=${() => {}}>
      <form onSubmit=${this.submit}>
        <h2 id="sign-in-heading">Sign in</h2>
        ${expired && html`<${Note} mood="waiting">Your sign-in has expired. Nothing you wrote is lost.<//>`}
        ${loginUrl ? html`<p>This page is for admins.</p>` : html`<${Paste} text=${text} onInput=${(value) => this.setState({ text: value })} />`}
        <div class="buttons">
          ${loginUrl
            ? html`<a class="button" href=${signInUrl()} onClick=${(event) => (event.currentTarget.href = signInUrl())}>Sign in</a>`
            : html`<button type="submit" disabled=${!text.trim()}>Go on</button>`}
        </div>
      </form>
    <//>`;
  }
}

const Paste = ({ text, onInput }) =>
  html`<label class="field"><span>An admin's bearer token</span>
      <textarea rows="4" class="code" autocomplete="off" spellcheck=${false} value=${text} onInput=${(event) => onInput(event.currentTarget.value)}></textarea>
    </label>
    <p class="soft small-print">It stays in this tab and is gone when you close it.</p>`;
