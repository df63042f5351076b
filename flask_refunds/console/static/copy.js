// A button that copies text to the clipboard.

import { Component, html } from "./ui.js";

const SHOWN_MS = 2500;

/** Copy text. The clipboard API needs HTTPS; the older way works everywhere. @returns {Promise<boolean>} */
async function copy(text, nearby) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text, nearby);
  }
}

function copyBySelection(text, nearby) {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  area.setAttribute("aria-hidden", "true");
  // Beside the button: behind an open dialog, nothing can be selected.
  nearby.after(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  nearby.focus();
  return isCopied;
}

/** @prop text what to copy; @prop label what it is, for screen readers */
export class CopyButton extends Component {
  state = { result: "" };

  componentWillUnmount() {
    clearTimeout(this.timer);
  }

  copy = async ({ currentTarget }) => {
    const isCopied = await copy(this.props.text, currentTarget);
    clearTimeout(this.timer);
    this.setState({ result: isCopied ? "Copied" : "Select the text and copy it" });
    this.timer = setTimeout(() => this.setState({ result: "" }), SHOWN_MS);
  };

  render({ label }, { result }) {
    return html`<span class="copy"><button type="button" class="secondary small" aria-label="Copy ${label}" onClick=${this.copy}>Copy</button>
      <span role="status">${result}</span></span>`;
  }
}
