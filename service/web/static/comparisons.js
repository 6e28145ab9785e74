// The comparisons of versions: agreement, and the images that differ most.

import { listComparisons } from "./server.js";

const SHOWN_CHANGES = 8;

function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

const share = (count, total) => `${((100 * count) / total).toFixed(1)} %`;
const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(4)}`;

function measures(found) {
  const compared = found.images.compared;
  const rows = [["Images compared", compared]];
  if (compared) {
    rows.push(["Same prediction", share(found.top1_agreements, compared)]);
    if (found.task === "TASK_MULTICLASS") {
      rows.push([
        `Among the candidate's first ${found.top_k}`,
        share(found.top_k_agreements, compared),
      ]);
    }
    rows.push(
      ["Drift of confidence", signed(found.candidate_confidence - found.live_confidence)],
      ["Mean total variation", found.total_variation.toFixed(4)],
    );
  }
  for (const outcome of ["dropped", "unfit", "unavailable", "failed"]) {
    if (found.images[outcome]) rows.push([`Not compared: ${outcome}`, found.images[outcome]]);
  }
  if (found.waiting_images) rows.push(["Waiting", found.waiting_images]);
  const list = make("dl");
  for (const [name, value] of rows) {
    list.append(make("dt", { textContent: name }), make("dd", { textContent: value }));
  }
  return list;
}

const first = (classes) => `${classes[0].label} ${(100 * classes[0].probability).toFixed(1)} %`;

function image(found, one) {
  const item = make("li", { className: "compared-image" });
  if (one.kept) {
    const source = `data:${one.kept.media_type};base64,${one.kept.data}`;
    item.append(make("img", { src: source, alt: "The image, or what the network saw of it" }));
  }
  const answers = `${first(one.live)} → ${first(one.candidate)}`;
  const where = `SHA-256 ${one.sha256}${one.request_id ? `, request ${one.request_id}` : ""}`;
  item.append(
    make("div", {}, make("p", { textContent: answers }), make("p", { className: "small muted", textContent: where })),
  );
  return item;
}

function folded(id, summary, items, open) {
  const details = make("details", { id, open }, make("summary", { textContent: summary }));
  details.append(make("ul", {}, ...items));
  return details;
}

function panel(found, open) {
  const name = `${found.model_name}: version ${found.candidate_version} beside version ${found.live_version}`;
  const element = make("article", { className: "panel comparison" }, make("h3", { textContent: name }));
  if (found.problem) element.append(make("p", { className: "notice", textContent: found.problem }));
  element.append(measures(found));
  if (found.changes.length) {
    const id = `changes-${found.model_name}`;
    const items = found.changes
      .slice(0, SHOWN_CHANGES)
      .map((one) => make("li", { textContent: `${one.live_label} → ${one.candidate_label}: ${one.images}` }));
    element.append(folded(id, "What changes", items, open.has(id)));
  }
  if (found.most_different.length) {
    const id = `different-${found.model_name}`;
    const items = found.most_different.map((one) => image(found, one));
    element.append(folded(id, "The images that differ most", items, open.has(id)));
  }
  return element;
}

/** Shows the comparisons, if there are any and the token allows it. */
export class ComparisonPanels {
  constructor(section, link, parent) {
    this.section = section;
    this.link = link;
    this.parent = parent;
    this.shown = "[]";
    this.denied = false;
  }

  async refresh() {
    if (this.denied) return;
    let found;
    try {
      found = await listComparisons();
    } catch (refusal) {
      // They are for administrators: not a failure of the page.
      this.denied = refusal.code === "PERMISSION_DENIED";
      return;
    }
    const now = JSON.stringify(found);
    if (now === this.shown) return;
    this.shown = now;
    this.section.hidden = this.link.hidden = found.length === 0;
    const open = new Set([...this.parent.querySelectorAll("details[open]")].map(({ id }) => id));
    const focused = document.activeElement?.closest("#comparisons details")?.id;
    this.parent.replaceChildren(...found.map((one) => panel(one, open)));
    if (focused) document.getElementById(focused)?.querySelector("summary").focus();
  }
}
