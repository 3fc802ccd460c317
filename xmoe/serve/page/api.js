// Requests to the service this page came from, with the token where one is set.
// The token lives in this variable alone: closing or reloading the tab forgets it.
let token = "";

export class Refusal extends Error {
  constructor(status, body) {
    super(body.message || `the service answered ${status}`);
    this.status = status;
    this.code = body.code || "unknown";
    this.hint = body.hint || "";
    this.requestId = body.request_id || "";
  }
}

export function setToken(value) {
  token = value.trim();
}

export function getToken() {
  return token;
}

// The service may be mounted below a prefix; this file lies in its page/.
function under(path) {
  return new URL(`..${path}`, import.meta.url);
}

// Values that are not set stay out of the query, so that the service's defaults apply.
function address(path, options) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(options)) {
    if (value !== "" && value !== null && value !== undefined) query.set(name, value);
  }
  return query.size ? `${path}?${query}` : path;
}

async function ask(path, { method = "GET", body, signal, as = "json" } = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (body instanceof Blob) headers["Content-Type"] = "application/octet-stream";
  let reply;
  try {
    reply = await fetch(under(path), { method, body, headers, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, {
      code: "unreachable",
      message: "the service cannot be reached",
      hint: "is it still running?",
    });
  }
  if (reply.ok && as === "blob") return reply.blob();
  const said = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Refusal(reply.status, said);
  return said;
}

export function readState() {
  return Promise.all(["/v1/ops", "/v1/experts", "/v1/drift"].map((path) => ask(path)));
}

export function readModel() {
  return ask("/v1/model");
}

export function classify(blob, options, signal) {
  return ask(address("/v1/classify", options), { method: "POST", body: blob, signal });
}

export function explain(blob, options, signal) {
  const path = address("/v1/explain", { ...options, arrays: true });
  return ask(path, { method: "POST", body: blob, signal });
}

export function readSample(place, signal) {
  return ask(`/v1/samples/${place}`, { as: "blob", signal });
}

export function correct(blob, correction) {
  const form = new FormData();
  form.append("file", blob, "recording");
  form.append("correction", JSON.stringify(correction));
  return ask("/v1/corrections", { method: "POST", body: form });
}

export function streamAddress() {
  const url = under("/v1/stream");
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  return url;
}
