// Bars that need no library: as tall as they are worth, told in words to who cannot see them.

import { html } from "./ui.js";

const MOST_LABELS = 13;

/**
 * Upright bars, one a month.
 * @prop points [{label, short, value}]; a value may be null
 * @prop format value => words
 */
export function Columns({ title, points, format }) {
  const most = Math.max(...points.map(({ value }) => value ?? 0));
  const every = Math.ceil(points.length / MOST_LABELS);
  return html`<figure class="panel chart">
    <figcaption>${title}<span class="soft">${most > 0 && `up to ${format(most)}`}</span></figcaption>
    <div class="columns" role="img" aria-label="${title}. ${spoken(points, format)}">
      ${points.map(({ label, short, value }, position) => html`<div class="column" title="${label}: ${format(value)}">
        <div class="plot"><div class="fill" style=${{ height: size(value, most) }}></div></div>
        <span class="soft">${position % every === 0 && short}</span>
      </div>`)}
    </div>
  </figure>`;
}

/** Lying bars, one a word. */
export function Rows({ title, points, format }) {
  const most = Math.max(...points.map(({ value }) => value));
  return html`<figure class="panel chart">
    <figcaption>${title}</figcaption>
    <div class="rows" role="img" aria-label="${title}. ${spoken(points, format)}">
      ${points.map(({ label, value }) => html`<div class="row">
        <span>${label}</span><span class="track"><span class="fill" style=${{ width: size(value, most) }}></span></span><span class="number">${format(value)}</span>
      </div>`)}
    </div>
  </figure>`;
}

const size = (value, most) => (value > 0 ? `${Math.max(1, (value / most) * 100)}%` : "0");
const spoken = (points, format) => points.map(({ label, value }) => `${label}: ${format(value)}`).join("; ");
