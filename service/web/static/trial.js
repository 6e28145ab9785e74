// The "Try it" panel: classifies one image, and shows what the network saw.

import { Refusal, classify, describeVersion, explain, fetchImage, showImage } from "./server.js";

const MAX_IMAGE_BYTES = 16 * 1024 * 1024;
const CLASSES_AT_FIRST = 10;
// From this probability on, an independent label counts as true.
const PREDICTED_FROM = 0.5;
const MOST_NAMED = 5;

const TITLES = {
  INVALID_ARGUMENT: "This image cannot be used",
  NOT_FOUND: "There is no such model",
  UNAVAILABLE: "The model is not available right now",
  RESOURCE_EXHAUSTED: "The server is busy",
  DEADLINE_EXCEEDED: "The answer took too long",
  UNAUTHENTICATED: "The server requires credentials",
  PERMISSION_DENIED: "The server does not allow this",
};

const find = (id) => document.getElementById(id);

const percent = (share) => {
  if (share > 0 && share < 0.0001) return "< 0.01 %";
  return `${(share * 100).toFixed(share < 0.1 ? 2 : 1)} %`;
};

export class TrialPanel {
  constructor() {
    this.choice = find("trial-model");
    this.image = null;
    this.turn = 0;
    const file = find("trial-file");
    file.addEventListener("change", () => {
      if (file.files[0]) this.try(file.files[0]);
      // Allow choosing the same file again.
      file.value = "";
    });
    this.choice.addEventListener("change", () => {
      this.showExamples();
      if (this.image) this.try(this.image);
    });
    find("trial").addEventListener("submit", (event) => event.preventDefault());
    find("trial-explain").addEventListener("click", () => this.explain());
    this.acceptDrops(find("drop"));
  }

  acceptDrops(drop) {
    // A file dropped next to the field would make the browser leave the page.
    for (const type of ["dragover", "drop"]) {
      document.addEventListener(type, (event) => event.preventDefault());
    }
    drop.addEventListener("dragover", () => drop.classList.add("over"));
    for (const type of ["dragleave", "drop"]) {
      drop.addEventListener(type, () => drop.classList.remove("over"));
    }
    drop.addEventListener("drop", (event) => {
      const [image] = event.dataTransfer.files;
      if (image) this.try(image);
    });
  }

  /** Offer these models, and keep the current choice if possible. */
  offer(models) {
    const chosen = this.choice.value;
    fillChoice(this.choice, models);
    if (this.choice.value !== chosen) this.showExamples();
  }

  async showExamples() {
    const [model, version] = this.choice.value.split("/");
    const list = find("examples").querySelector("ul");
    find("examples").hidden = true;
    if (!model) return;
    const { examples } = await describeVersion(model, version).catch(() => ({ examples: [] }));
    list.replaceChildren(...examples.map((path, index) => this.exampleItem(path, index)));
    find("examples").hidden = examples.length === 0;
  }

  exampleItem(path, index) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    const picture = document.createElement("img");
    button.type = "button";
    showImage(picture, path).catch(() => {});
    picture.alt = `Golden image ${index + 1}`;
    button.append(picture);
    button.addEventListener("click", async () => {
      try {
        this.try(await fetchImage(path));
      } catch (refusal) {
        this.showError(refusal);
      }
    });
    item.append(button);
    return item;
  }

  /** Classify an image, and show the answer or the error. */
  async try(image) {
    const [model, version] = this.choice.value.split("/");
    const turn = ++this.turn;
    const result = find("trial-result");
    this.image = image;
    result.setAttribute("aria-busy", "true");
    try {
      if (!model) throw new Refusal("UNAVAILABLE", "No model is available yet.");
      if (image.size > MAX_IMAGE_BYTES) {
        const size = (image.size / 1024 / 1024).toFixed(1);
        throw new Refusal("INVALID_ARGUMENT", `The file is ${size} MiB; the limit is 16 MiB.`);
      }
      const answer = await classify(model, version, image);
      // If another image was chosen meanwhile, its answer is the one to show.
      if (turn === this.turn) this.showAnswer(answer, image);
    } catch (refusal) {
      if (turn === this.turn) this.showError(refusal);
    } finally {
      if (turn === this.turn) result.setAttribute("aria-busy", "false");
    }
  }

  showAnswer(answer, image) {
    this.reveal("trial-answer");
    this.answered = { ...answer, image };
    find("trial-why").hidden = true;
    find("trial-explaining").textContent = "";
    const original = find("trial-original");
    URL.revokeObjectURL(original.src);
    original.src = URL.createObjectURL(image);
    // Tiny pictures are clearer as squares than blurred.
    original.onload = () => original.classList.toggle("pixels", original.naturalWidth < 100);
    find("trial-input").src = `data:image/png;base64,${answer.input_png}`;
    const [height, width, channels] = answer.input_shape;
    find("trial-shape").textContent = `${width} × ${height}, ${channels === 1 ? "gray" : "colour"}`;
    const detail = document.createElement("small");
    const milliseconds = (answer.seconds * 1000).toFixed(1);
    detail.textContent = `${answer.model} version ${answer.version}, ${milliseconds} ms on the server`;
    find("trial-summary").replaceChildren(...headline(answer), detail);
    const independent = answer.task === "multilabel";
    const list = find("trial-classes");
    list.classList.toggle("independent", independent);
    list.setAttribute(
      "aria-label",
      independent ? "Probability of each label, independent of the others" : "Probability of each class",
    );
    find("trial-independent").hidden = !independent;
    this.showClasses(answer.classes, CLASSES_AT_FIRST);
  }

  /** Show where in the image the evidence for the best class lies. */
  async explain() {
    const { model, version, classes, image } = this.answered;
    const turn = this.turn;
    const button = find("trial-explain");
    const status = find("trial-explaining");
    button.disabled = true;
    status.textContent = "Looking for the evidence…";
    try {
      const found = await explain(model, version, classes[0].label, image);
      if (turn !== this.turn) return;
      const overlay = find("trial-overlay");
      overlay.src = `data:image/png;base64,${found.overlay_png}`;
      overlay.alt = `Where the evidence for ${found.label} lies: the brighter, the more`;
      overlay.onload = () => overlay.classList.toggle("pixels", overlay.naturalWidth < 100);
      find("trial-evidence").textContent = `Evidence for ${found.label}, by ${found.method}`;
      find("trial-why").hidden = false;
      status.textContent = `Found in ${found.seconds.toFixed(1)} s.`;
    } catch (refusal) {
      if (turn === this.turn) status.textContent = refusal.message;
    } finally {
      button.disabled = false;
    }
  }

  showClasses(classes, count) {
    find("trial-classes").replaceChildren(...classes.slice(0, count).map(classItem));
    const all = find("trial-all");
    all.hidden = classes.length <= count;
    all.textContent = `Show all ${classes.length} classes`;
    all.onclick = () => this.showClasses(classes, classes.length);
  }

  showError(refusal) {
    this.reveal("trial-error");
    const title = document.createElement("strong");
    title.textContent = TITLES[refusal.code] ?? "The request failed";
    const text = document.createElement("p");
    text.textContent = refusal.message;
    const code = document.createElement("p");
    code.className = "small muted";
    const request = refusal.requestId ? `, request ${refusal.requestId}` : "";
    code.textContent = `${refusal.code ?? "error"}${request}`;
    find("trial-error").replaceChildren(title, text, code);
  }

  reveal(shown) {
    for (const id of ["trial-hint", "trial-error", "trial-answer"]) find(id).hidden = id !== shown;
  }
}

/** What the answer says: the best class, or every independent label that counts as true. */
function headline({ task, classes }) {
  const strong = document.createElement("strong");
  if (task !== "multilabel") {
    const [best] = classes;
    strong.textContent = best.label;
    return [strong, ` with ${percent(best.probability)}`];
  }
  const predicted = classes.filter(({ probability }) => probability >= PREDICTED_FROM);
  const named = predicted.slice(0, MOST_NAMED).map(({ label }) => label);
  const more = predicted.length - named.length;
  strong.textContent = named.length ? named.join(", ") : "No label";
  return [strong, `${more ? ` and ${more} more` : ""}: ${predicted.length} of ${classes.length} labels`];
}

function classItem({ label, probability }) {
  const item = document.createElement("li");
  item.classList.toggle("predicted", probability >= PREDICTED_FROM);
  const name = document.createElement("span");
  name.className = "name";
  name.textContent = name.title = label;
  const track = document.createElement("span");
  track.className = "track";
  const fill = document.createElement("span");
  fill.className = "fill";
  fill.style.width = `${probability * 100}%`;
  track.append(fill);
  const value = document.createElement("span");
  value.className = "value";
  value.textContent = percent(probability);
  item.append(name, track, value);
  return item;
}

/** Put the available versions into a select element, after the options that it has for good. */
export function fillChoice(select, models) {
  const available = models.filter(({ state }) => state === "available");
  const options = available.map(({ name, version }) => new Option(`${name}, version ${version}`, `${name}/${version}`));
  const kept = [...select.options].filter(({ value }) => value === "");
  const known = [...select.options].map(({ value }) => value).filter((value) => value !== "");
  if (known.join() === options.map(({ value }) => value).join()) return;
  const chosen = select.value;
  select.replaceChildren(...kept, ...options);
  if ([...select.options].some(({ value }) => value === chosen)) select.value = chosen;
}
