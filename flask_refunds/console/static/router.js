// Routes in the URL's hash: #/view/id?params. The hash is never sent to a server.

export function parse(hash = location.hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [view = "", id = ""] = path.split("/").map(decode);
  return { view: view || "purchases", id, params: Object.fromEntries(new URLSearchParams(query)) };
}

export function href(view, id = "", params = {}) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value)).toString();
  return `#/${view}${id ? `/${encodeURIComponent(id)}` : ""}${query ? `?${query}` : ""}`;
}

/** Show the current view with other params, without adding a history entry. */
export function replaceParams(params) {
  const { view, id } = parse();
  history.replaceState(null, "", href(view, id, params));
  window.dispatchEvent(new HashChangeEvent("hashchange"));
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
