// Reads Prometheus' text format, and computes rates and quantiles as PromQL does.

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;
const ESCAPES = { n: "\n", '"': '"', "\\": "\\" };

const toNumber = (text) => (text === "+Inf" ? Infinity : text === "-Inf" ? -Infinity : Number(text));

/** All samples: a list of `{name, labels, value}`. */
export function parse(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const match = line.startsWith("#") ? null : LINE.exec(line);
    if (!match) continue;
    const labels = {};
    for (const [, key, value] of (match[2] ?? "").matchAll(LABEL)) {
      labels[key] = value.replace(/\\(.)/g, (_, character) => ESCAPES[character] ?? character);
    }
    samples.push({ name: match[1], labels, value: toNumber(match[3]) });
  }
  return samples;
}

/** Sums the values of samples by `key(labels)`; samples with a null key are left out. */
export function sumBy(samples, name, key) {
  const sums = new Map();
  for (const sample of samples) {
    if (sample.name !== name) continue;
    const group = key(sample.labels);
    if (group !== null) sums.set(group, (sums.get(group) ?? 0) + sample.value);
  }
  return sums;
}

/** How much each sum has grown; null if a counter was reset, as after a restart. */
export function growth(before, after) {
  const grown = new Map();
  for (const [key, value] of after) {
    const difference = value - (before.get(key) ?? 0);
    if (difference < 0) return null;
    grown.set(key, difference);
  }
  return grown;
}

/**
 * A quantile of a histogram, interpolated within its bucket.
 *
 * @param buckets Map from upper bound to cumulative count.
 * @returns null where nothing was observed.
 */
export function quantile(buckets, share) {
  const sorted = [...buckets].sort(([one], [other]) => one - other);
  const total = sorted.at(-1)?.[1] ?? 0;
  if (!total) return null;
  const rank = share * total;
  let lower = 0;
  let below = 0;
  for (const [upper, count] of sorted) {
    if (count >= rank && count > below) {
      if (upper === Infinity) return lower;
      return lower + ((upper - lower) * (rank - below)) / (count - below);
    }
    lower = upper;
    below = count;
  }
  return lower;
}
