// Bar charts made of HTML and CSS. A label describes each chart to screen readers.

import { html } from "./ui.js";

const MAX_LABELS = 13;

/**
 * A chart with a vertical bar for each point.
 * @prop points [{label, short, value}]; a value may be null
 * @prop format (value) => text
 * @prop empty the text if no bar would be visible
 */
export function ColumnChart({ title, points, format, empty }) {
  const maximum = Math.max(0, ...points.map(({ value }) => value ?? 0));
  if (maximum === 0) return html`<figure class="panel chart"><figcaption>${title}</figcaption><div class="empty"><p>${empty}</p></div></figure>`;
  const step = Math.ceil(points.length / MAX_LABELS);
  return html`<figure class="panel chart">
    <figcaption>${title}<span class="muted">up to ${format(maximum)}</span></figcaption>
    <div class="columns" role="img" aria-label="${title}. ${describe(points, format)}">
      ${points.map(({ label, short, value }, position) => html`<div class="column" title="${label}: ${format(value)}">
        <div class="plot"><div class="fill" style=${{ height: size(value, maximum) }}></div></div>
        <span class="muted">${position % step === 0 && short}</span>
      </div>`)}
    </div>
  </figure>`;
}

/** A chart with a horizontal bar for each point. */
export function BarChart({ title, points, format }) {
  const maximum = Math.max(...points.map(({ value }) => value));
  return html`<figure class="panel chart">
    <figcaption>${title}</figcaption>
    <div class="rows" role="img" aria-label="${title}. ${describe(points, format)}">
      ${points.map(({ label, value }) => html`<div class="row">
        <span>${label}</span><span class="track"><span class="fill" style=${{ width: size(value, maximum) }}></span></span><span class="number">${format(value)}</span>
      </div>`)}
    </div>
  </figure>`;
}

const size = (value, maximum) => (value > 0 ? `${Math.max(1, (value / maximum) * 100)}%` : "0");
const describe = (points, format) => points.map(({ label, value }) => `${label}: ${format(value)}`).join("; ");
