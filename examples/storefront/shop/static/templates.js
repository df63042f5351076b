// Copies of HTML templates, and functions that fill them.

const types = JSON.parse(document.getElementById("types").textContent);

/** Copy a template. @returns the copy, and its slots by their name in `data-slot` */
export function copyTemplate(id) {
  const root = document.getElementById(id).content.firstElementChild.cloneNode(true);
  const slots = {};
  for (const slot of root.querySelectorAll("[data-slot]")) slots[slot.dataset.slot] = slot;
  return { root, slots };
}

export function typeName(type) {
  return types[type] ?? type;
}

const dates = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

export function showDate(element, iso) {
  element.dateTime = iso;
  element.textContent = dates.format(new Date(iso));
}

export function showStatus(element, status) {
  element.textContent = status;
  element.classList.add(`status-${status}`);
}

/** @param {"success"|"warning"|"error"|""} severity */
export function showMessage(element, text, severity = "") {
  element.textContent = text;
  element.dataset.severity = severity;
}
