// All requests of the console to the server.

import { currentToken, replaceToken } from "./token.js";

/** A refusal by the server, in its own words. */
export class Refusal extends Error {
  constructor(code, message, requestId = "") {
    super(message);
    this.code = code;
    this.requestId = requestId;
  }
}

async function send(path, options, token) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  try {
    return await fetch(path, { ...options, headers, signal: AbortSignal.timeout(35_000) });
  } catch {
    throw new Refusal("UNAVAILABLE", "The server does not respond. Is it still running?");
  }
}

async function request(path, options = {}) {
  let token = currentToken();
  let response = await send(path, options, token);
  while (response.status === 401) {
    await replaceToken(token);
    token = currentToken();
    response = await send(path, options, token);
  }
  if (response.ok) return response;
  const text = await response.text();
  let refusal;
  try {
    refusal = JSON.parse(text);
  } catch {
    throw new Refusal(`HTTP ${response.status}`, text.trim() || response.statusText);
  }
  throw new Refusal(refusal.code, refusal.detail, refusal.request_id);
}

const versionPath = (model, version) =>
  `api/models/${encodeURIComponent(model)}/${encodeURIComponent(version)}`;

export const listModels = async () => (await request("api/models")).json();

export const listComparisons = async () => (await request("api/comparisons")).json();

export const describeVersion = async (model, version) =>
  (await request(versionPath(model, version))).json();

export const fetchImage = async (path) => (await request(path)).blob();

/** Show a picture of the server in an image, whose own request would carry no token. */
export async function showImage(image, path) {
  const url = URL.createObjectURL(await fetchImage(path));
  image.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
  image.src = url;
}

export async function classify(model, version, image) {
  const query = new URLSearchParams({ model, version });
  return (await request(`api/classify?${query}`, { method: "POST", body: image })).json();
}

/** Where in an image the evidence for a class lies. */
export async function explain(model, version, label, image) {
  const query = new URLSearchParams({ model, version, label });
  return (await request(`api/explain?${query}`, { method: "POST", body: image })).json();
}

/** The metrics with these names, in Prometheus' text format. */
export async function fetchMetrics(names) {
  const query = new URLSearchParams(names.map((name) => ["name[]", name]));
  return (await request(`metrics?${query}`, { headers: { Accept: "text/plain" } })).text();
}

/** Why the server is not ready; empty if it is. */
export async function unreadyReason() {
  try {
    await request("readyz");
    return "";
  } catch (refusal) {
    return refusal.message.trim().replace(/^not ready(: )?/, "") || "the token does not tell why";
  }
}
