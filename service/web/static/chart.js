// A line chart in SVG, without a library and accessible to screen readers.

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { left: 52, right: 6, top: 8, bottom: 18 };

function svg(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** The smallest of 1, 2, 2.5 and 5 times a power of ten that is at least a value. */
function niceCeiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((nice) => nice >= value * 0.999);
}

export class Chart {
  /**
   * @param parent Where to put it.
   * @param title What it shows.
   * @param series List of `{key, label}`; each keeps its colour.
   * @param format From a value to text with its unit.
   * @param limit A value that deserves a line of its own.
   */
  constructor(parent, { id, title, series, format, limit }) {
    Object.assign(this, { title, series, format, limit });
    this.element = document.createElement("article");
    this.element.className = "panel chart";
    this.element.id = id;
    const heading = document.createElement("h3");
    heading.textContent = title;
    this.graph = svg("svg", { role: "img" });
    this.legend = document.createElement("ul");
    this.legend.className = "legend";
    this.element.append(heading, this.graph, this.legend);
    parent.append(this.element);
    new ResizeObserver(() => this.last && this.draw(...this.last)).observe(this.graph);
  }

  /**
   * Show points.
   *
   * @param points List of `{time, values}`; `values` maps a series' key to a number or null.
   * @param span Seconds that the chart is wide.
   */
  draw(points, span) {
    this.last = [points, span];
    const latest = points.at(-1)?.values ?? {};
    const seen = this.series.filter(({ key }) => points.some(({ values }) => values[key] != null));
    this.drawLegend(seen, latest);
    const said = seen.map(({ key, label }) => `${label} ${this.text(latest[key])}`).join(", ");
    this.graph.setAttribute("aria-label", `${this.title}: ${said || "no data yet"}`);

    const { width, height } = this.graph.getBoundingClientRect();
    if (!width) return;
    const right = width - MARGIN.right;
    const bottom = height - MARGIN.bottom;
    const numbers = points.flatMap(({ values }) => seen.map(({ key }) => values[key] ?? 0));
    const top = niceCeiling(Math.max(this.limit ?? 0, ...numbers));
    const now = points.at(-1)?.time ?? 0;
    const x = (time) => right - ((now - time) / span) * (right - MARGIN.left);
    const y = (value) => bottom - (value / top) * (bottom - MARGIN.top);
    const parts = [];
    for (const value of seen.length ? [0, top / 2, top] : [0, top]) {
      parts.push(svg("line", { class: "grid", x1: MARGIN.left, x2: right, y1: y(value), y2: y(value) }));
      if (seen.length) {
        const place = { x: MARGIN.left - 8, y: y(value) + 4, "text-anchor": "end" };
        parts.push(svg("text", place, this.format(value)));
      }
    }
    parts.push(svg("text", { x: MARGIN.left, y: height - 4 }, `${Math.round(span / 60)} min ago`));
    parts.push(svg("text", { x: right, y: height - 4, "text-anchor": "end" }, "now"));
    if (this.limit) {
      const level = y(this.limit);
      parts.push(svg("line", { class: "limit", x1: MARGIN.left, x2: right, y1: level, y2: level }));
    }
    for (const { key } of seen) {
      parts.push(svg("path", { class: `line ${this.color(key)}`, d: line(points, key, x, y) }));
    }
    if (!seen.length) {
      const place = { class: "empty", x: (MARGIN.left + right) / 2, y: height / 2 + 4, "text-anchor": "middle" };
      parts.push(svg("text", place, "no requests yet"));
    }
    this.graph.replaceChildren(...parts);
  }

  drawLegend(seen, latest) {
    this.legend.replaceChildren(
      ...seen.map(({ key, label }) => {
        const item = document.createElement("li");
        const swatch = document.createElement("i");
        swatch.className = this.color(key);
        const name = document.createElement("span");
        name.textContent = label;
        const value = document.createElement("b");
        value.textContent = this.text(latest[key]);
        item.append(swatch, name, value);
        return item;
      }),
    );
  }

  color(key) {
    return `series-${this.series.findIndex((one) => one.key === key) + 1}`;
  }

  text(value) {
    return value == null ? "idle" : this.format(value);
  }
}

/** A path through the points, with gaps where a value is missing. */
function line(points, key, x, y) {
  let path = "";
  let drawing = false;
  for (const { time, values } of points) {
    const value = values[key];
    if (value == null) {
      drawing = false;
      continue;
    }
    const place = `${x(time).toFixed(1)} ${y(value).toFixed(1)}`;
    // A lone point gets a length, so that its round cap is visible.
    path += drawing ? `L${place}` : `M${place}h0.01`;
    drawing = true;
  }
  return path;
}
