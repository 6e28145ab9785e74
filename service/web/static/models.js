// The table of models, and their model cards.

import { describeVersion, showImage } from "./server.js";

const STATE_LOOKS = { available: "good", loading: "warn", draining: "warn", failed: "bad" };

const policy = globalThis.trustedTypes?.createPolicy("model-card", {
  // The server renders it from Markdown and escapes all HTML in it.
  createHTML: (html) => html,
});

function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

function cell(label, ...content) {
  const element = make("td", {}, ...content);
  element.dataset.label = label;
  return element;
}

const note = (text) => make("span", { className: "small muted", textContent: text });

function stateCell({ state, reason }) {
  const badge = make("span", { className: `badge ${STATE_LOOKS[state] ?? ""}`, textContent: state });
  const element = make("td", { className: "state" }, badge);
  if (reason) element.append(make("p", { className: "small reason", textContent: reason }));
  return element;
}

function providerCell({ provider, precision, provider_refusals: refusals }) {
  const element = cell("Provider", provider.replace(/ExecutionProvider$/, ""), note(precision));
  if (refusals.length) {
    const reasons = refusals.map((refusal) =>
      make("li", { textContent: refusal.replace("ExecutionProvider", "") }),
    );
    const summary = make("summary", { textContent: "why not a faster one" });
    element.append(make("details", { className: "small" }, summary, make("ul", {}, ...reasons)));
  }
  return element;
}

function describeAccuracy(accuracy) {
  if (!accuracy) return [note("not measured")];
  const { top1, mean_average_precision: precision, examples } = accuracy;
  if (precision === null) return [`${(top1 * 100).toFixed(1)} %`, note(`of ${examples} examples`)];
  return [precision.toFixed(3), note(`mean average precision on ${examples} examples`)];
}

function row(model, openCard) {
  const name = make("th", { scope: "row" }, `${model.name} `);
  name.append(make("span", { className: "version", textContent: `version ${model.version}` }));
  for (const label of model.version_labels) {
    name.append(" ", make("span", { className: "tag", textContent: label }));
  }
  const state = stateCell(model);
  const element = make("tr", {}, name, state);
  if (model.provider === undefined) {
    // The version is not loaded, so the reason may take the whole row.
    state.colSpan = 6;
    return element;
  }
  const kind = model.task === "multilabel" ? "independent: " : "";
  const labels = kind + model.labels.join(", ") + (model.classes > model.labels.length ? ", …" : "");
  const button = make("button", { type: "button", textContent: "Model card" });
  button.setAttribute("aria-label", `Model card of ${model.name} version ${model.version}`);
  button.addEventListener("click", () => openCard(model));
  element.append(
    cell("Accuracy", ...describeAccuracy(model.accuracy)),
    providerCell(model),
    cell("Golden difference", model.golden_difference.toExponential(1)),
    cell("Classes", String(model.classes), note(labels)),
    make("td", { className: "action" }, button),
  );
  return element;
}

/** Shows the models, and replaces rows only if something changed, so that focus is kept. */
export class ModelTable {
  constructor(table, empty) {
    this.table = table;
    this.empty = empty;
    this.shown = null;
  }

  show(models, openCard) {
    const now = JSON.stringify(models);
    if (now === this.shown) return;
    this.shown = now;
    this.empty.hidden = models.length > 0;
    this.table.closest(".panel").hidden = models.length === 0;
    const focused = document.activeElement?.getAttribute("aria-label");
    this.table.tBodies[0].replaceChildren(...models.map((model) => row(model, openCard)));
    if (focused) this.table.querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus();
  }
}

function cardOf(html) {
  // Pictures in a template are not requested.
  const template = document.createElement("template");
  template.innerHTML = policy ? policy.createHTML(html) : html;
  for (const image of template.content.querySelectorAll("img")) {
    const path = image.getAttribute("src");
    image.removeAttribute("src");
    showImage(image, path).catch(() => {});
  }
  return template.content;
}

/** Open the card of one version. */
export async function openCard({ name, version }) {
  const dialog = document.getElementById("card");
  const body = document.getElementById("card-body");
  document.getElementById("card-title").textContent = `${name}, version ${version}`;
  body.replaceChildren(make("p", { className: "muted", textContent: "Loading…" }));
  dialog.showModal();
  try {
    const { card_html: html } = await describeVersion(name, version);
    if (html) body.replaceChildren(cardOf(html));
    else body.replaceChildren(make("p", { textContent: "This artifact has no model card." }));
  } catch (refusal) {
    body.replaceChildren(make("p", { className: "notice", textContent: refusal.message }));
  }
}
