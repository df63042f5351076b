// Preact with htm templates, which need no build step.

import { Component, h, render } from "./vendor/preact.js";
import htm from "./vendor/htm.js";

export const html = htm.bind(h);
export { Component, render };
