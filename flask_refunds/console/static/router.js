// Routes in the URL's hash: #/view/id?params. The hash is never sent to a server.

export function parse(hash = location.hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [view = "", id = ""] = path.split("/").map(decode);
  return { view: view === "payment" && !id ? "purchases" : view || "purchases", id, params: Object.fromEntries(new URLSearchParams(query)) };
}

export function href(view, id = "", params = {}) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value)).toString();
  return `#/${view}${id ? `/${encodeURIComponent(id)}` : ""}${query ? `?${query}` : ""}`;
}

/** Make a function that sets a param of the current view, without adding a history entry. */
export const setParam = (name) => (value) => {
  const { view, id, params } = parse();
  history.replaceState(null, "", href(view, id, { ...params, [name]: value }));
  window.dispatchEvent(new HashChangeEvent("hashchange"));
};

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
