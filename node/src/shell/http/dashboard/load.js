// Rates and percentiles, from what `/metrics` counts: differences between two looks at it.

/** Seconds shown. */
export const SPAN = 300;
const WINDOW = 10;
/** A look that comes later than this many seconds begins anew. */
const LATE = 5;
const HARMLESS = ["ok", "not_found"];
const SERIOUS = ["unknown_outcome", "unavailable", "overloaded", "internal"];

/** Samples by name and labels. */
export function parse(text) {
  const samples = new Map();
  for (const line of text.split("\n")) {
    const cut = line.lastIndexOf(" ");
    if (line && !line.startsWith("#")) samples.set(line.slice(0, cut), Number(line.slice(cut + 1)));
  }
  return samples;
}

/** Sum over all series of a name whose labels fit. */
export function total(samples, name, fits = () => true) {
  let sum = 0;
  for (const [series, value] of samples) {
    if ((series === name || series.startsWith(`${name}{`)) && fits(series)) sum += value;
  }
  return sum;
}

const label = (series, name) => series.match(new RegExp(`[{,]${name}="([^"]*)"`))?.[1];

/** A quantile of what came between two looks, within its bucket as if spread evenly. */
function quantile(before, now, op, q) {
  const buckets = new Map();
  for (const [series, value] of now) {
    if (
      series.startsWith("quorate_request_duration_seconds_bucket{") &&
      label(series, "op") === op &&
      HARMLESS.includes(label(series, "outcome"))
    ) {
      const bound = label(series, "le") === "+Inf" ? Infinity : Number(label(series, "le"));
      buckets.set(bound, (buckets.get(bound) ?? 0) + value - (before.get(series) ?? 0));
    }
  }
  const bounds = [...buckets].sort(([a], [b]) => a - b);
  const all = bounds.at(-1)?.[1] ?? 0;
  if (all <= 0) return null;
  let [low, below] = [0, 0];
  for (const [bound, count] of bounds) {
    if (q * all <= count) {
      return bound === Infinity ? low : low + ((bound - low) * (q * all - below)) / (count - below);
    }
    [low, below] = [bound, count];
  }
  return low;
}

/** The last few minutes: lists of [when, value], with null where nothing is known. */
export class Load {
  looks = [];
  series = {
    get: [],
    put: [],
    other: [],
    failed: [],
    refused: [],
    getP50: [],
    getP99: [],
    putP50: [],
    putP99: [],
  };

  add(samples, now) {
    const last = this.looks.at(-1);
    const uptime = (look) => total(look, "quorate_uptime_seconds");
    if (last && uptime(samples) < uptime(last.samples)) {
      this.looks = [];
      this.push(now, {});
    }
    this.looks.push({ samples, now });
    if (WINDOW + 1 < this.looks.length) this.looks.shift();
    if (this.looks.length < 2) return;
    if (LATE < now - last.now) {
      // Nobody looked, so nobody knows how it was.
      this.looks = this.looks.slice(-1);
      this.push(now, {});
      return;
    }
    const rate = (fits) =>
      (total(samples, "quorate_requests_total", fits) -
        total(last.samples, "quorate_requests_total", fits)) /
      (now - last.now);
    const op = (name) => rate((series) => label(series, "op") === name);
    const outcome = (is) => rate((series) => is(label(series, "outcome")));
    const first = this.looks[0].samples;
    this.push(now, {
      get: op("get"),
      put: op("put") + op("delete"),
      // What this page asks is not what people want to see here.
      other: op("keys"),
      failed: outcome((word) => SERIOUS.includes(word)),
      refused: outcome((word) => ![...HARMLESS, ...SERIOUS].includes(word)),
      getP50: quantile(first, samples, "get", 0.5),
      getP99: quantile(first, samples, "get", 0.99),
      putP50: quantile(first, samples, "put", 0.5),
      putP99: quantile(first, samples, "put", 0.99),
    });
  }

  push(now, news) {
    for (const [name, values] of Object.entries(this.series)) {
      values.push([now, news[name] ?? null]);
      while (values[0][0] < now - SPAN) values.shift();
    }
  }
}

/** Errors since the node began, by what they were: [op, outcome, count], most first. */
export function failures(samples) {
  const found = [];
  for (const [series, value] of samples) {
    const word = series.startsWith("quorate_requests_total{") && label(series, "outcome");
    if (word && value && !HARMLESS.includes(word) && label(series, "op") !== "admin") {
      found.push([label(series, "op"), word, value]);
    }
  }
  return found.sort((a, b) => b[2] - a[2]);
}
