// The live charts: polls the metrics and shows their rates.

import { Chart } from "./chart.js";
import { growth, parse, quantile, sumBy } from "./metrics.js";
import { fetchMetrics } from "./server.js";

const POLL_SECONDS = 2;
const WINDOW_SECONDS = 10;
const LEAST_SPAN_SECONDS = 60;
const SPAN_SECONDS = 300;

const STAGES = ["decode", "preprocess", "queue", "inference", "postprocess"];
const STAGE_SERIES = STAGES.map((stage) => ({ key: stage, label: stage }));
const METRICS = [
  "convd_requests_total",
  "convd_stage_duration_seconds_bucket",
  "convd_batch_size_rows_sum",
  "convd_batch_size_rows_count",
  "convd_drift_index",
];
// By the usual rule of thumb, the predictions have drifted above this index.
const DRIFT_LIMIT = 0.25;

const significant = (value) =>
  value.toLocaleString("en", { maximumSignificantDigits: 3, useGrouping: false });
const rate = (value) => `${significant(value)}/s`;
const plain = (value) => significant(value);

function seconds(value) {
  if (value === 0) return "0";
  if (value < 1e-3) return `${significant(value * 1e6)} µs`;
  return value < 1 ? `${significant(value * 1e3)} ms` : `${significant(value)} s`;
}

const isAnError = (code) => !["OK", "CANCELLED"].includes(code);

export class LiveCharts {
  /**
   * @param parent Where the charts go.
   * @param choice A select element with `model/version`, or "" for all.
   */
  constructor(parent, choice) {
    this.choice = choice;
    this.history = [];
    this.points = [];
    this.charts = {
      rate: new Chart(parent, {
        id: "chart-rate",
        title: "Requests",
        series: [{ key: "ok", label: "answered" }, { key: "error", label: "errors" }],
        format: rate,
      }),
      batch: new Chart(parent, {
        id: "chart-batch",
        title: "Batch size, mean rows",
        series: [{ key: "rows", label: "rows" }],
        format: plain,
      }),
      p50: new Chart(parent, {
        id: "chart-p50",
        title: "Stage duration, p50",
        series: STAGE_SERIES,
        format: seconds,
      }),
      p99: new Chart(parent, {
        id: "chart-p99",
        title: "Stage duration, p99",
        series: STAGE_SERIES,
        format: seconds,
      }),
      drift: new Chart(parent, {
        id: "chart-drift",
        title: "Drift, population stability index",
        series: [{ key: "class", label: "classes" }, { key: "confidence", label: "confidence" }],
        format: plain,
        limit: DRIFT_LIMIT,
      }),
    };
    choice.addEventListener("change", () => this.restart());
    this.show();
  }

  /** Poll forever, except while the page is hidden. */
  async run() {
    for (;;) {
      if (!document.hidden) {
        try {
          this.take(parse(await fetchMetrics(METRICS)), performance.now() / 1000);
        } catch {
          // The badge at the top shows that the server does not respond.
        }
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_SECONDS * 1000));
    }
  }

  /** Start over: the series have changed, or the server was restarted. */
  restart() {
    this.history = [];
    this.points = [];
    this.show();
  }

  take(samples, time) {
    const snapshot = { time, ...this.read(samples) };
    this.history = this.history.filter((one) => time - one.time <= WINDOW_SECONDS + POLL_SECONDS / 2);
    const earlier = this.history[0];
    this.history.push(snapshot);
    const values = earlier && compare(earlier, snapshot);
    if (values === null) return this.restart();
    const point = { time, values: values ?? {} };
    this.points = [...this.points.filter((one) => time - one.time <= SPAN_SECONDS), point];
    this.show();
  }

  /** Sum the metrics of the chosen model for the charts. */
  read(samples) {
    const chosen = ({ model, version }) => !this.choice.value || this.choice.value === `${model}/${version}`;
    const where = (key) => (labels) => (chosen(labels) ? key(labels) : null);
    const count = (name, key) => sumBy(samples, name, where(key));
    return {
      codes: count("convd_requests_total", ({ code }) => (isAnError(code) ? "error" : "ok")),
      stages: new Map(
        STAGES.map((stage) => [
          stage,
          sumBy(
            samples,
            "convd_stage_duration_seconds_bucket",
            where((labels) => (labels.stage === stage ? toBound(labels.le) : null)),
          ),
        ]),
      ),
      rows: count("convd_batch_size_rows_sum", () => "rows"),
      batches: count("convd_batch_size_rows_count", () => "batches"),
      drift: worst(samples.filter(({ name, labels }) => name === "convd_drift_index" && chosen(labels))),
    };
  }

  show() {
    const elapsed = this.points.length ? this.points.at(-1).time - this.points[0].time : 0;
    const span = Math.max(LEAST_SPAN_SECONDS, Math.ceil(elapsed / 60) * 60);
    for (const [name, chart] of Object.entries(this.charts)) {
      const points = this.points.map(({ time, values }) => ({ time, values: values[name] ?? {} }));
      chart.draw(points, Math.min(span, SPAN_SECONDS));
    }
    // Models without a baseline have no such series.
    const drifts = this.points.some(({ values }) => Object.keys(values.drift ?? {}).length);
    this.charts.drift.element.hidden = !drifts;
  }
}

const toBound = (text) => (text === "+Inf" ? Infinity : Number(text));

/** The largest index of any model, for classes and for confidence. */
function worst(samples) {
  const indices = {};
  for (const { labels, value } of samples) {
    indices[labels.of] = Math.max(indices[labels.of] ?? 0, value);
  }
  return indices;
}

/** What happened between two snapshots; null if a counter was reset. */
function compare(before, after) {
  const elapsed = after.time - before.time;
  const codes = growth(before.codes, after.codes);
  const rows = growth(before.rows, after.rows);
  const batches = growth(before.batches, after.batches);
  if (!codes || !rows || !batches) return null;
  const p50 = {};
  const p99 = {};
  for (const [stage, buckets] of after.stages) {
    const grown = growth(before.stages.get(stage), buckets);
    if (!grown) return null;
    p50[stage] = quantile(grown, 0.5);
    p99[stage] = quantile(grown, 0.99);
  }
  const ran = batches.get("batches") ?? 0;
  return {
    rate: { ok: (codes.get("ok") ?? 0) / elapsed, error: (codes.get("error") ?? 0) / elapsed },
    batch: { rows: ran ? rows.get("rows") / ran : null },
    p50,
    p99,
    drift: after.drift,
  };
}
