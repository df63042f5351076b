// Copies of a <template>, filled.

const types = JSON.parse(document.getElementById("types").textContent);

/** A copy of a template, and its parts by the name in `data-slot`. */
export function copy(templateId) {
  const root = document.getElementById(templateId).content.firstElementChild.cloneNode(true);
  const parts = {};
  for (const part of root.querySelectorAll("[data-slot]")) parts[part.dataset.slot] = part;
  return { root, parts };
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

/** @param {"good"|"waiting"|"bad"|""} mood */
export function tell(element, text, mood = "") {
  element.textContent = text;
  element.dataset.mood = mood;
}
