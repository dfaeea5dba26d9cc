// Rates and percentiles, from what `/metrics` counts: differences between two looks at it.

import { el } from "/dashboard/element.js";

const KEPT = 300;
const WINDOW = 10;
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
    if (series.startsWith("quorate_request_duration_seconds_bucket{") && label(series, "op") === op
        && HARMLESS.includes(label(series, "outcome"))) {
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
      return bound === Infinity ? low : low + (bound - low) * (q * all - below) / (count - below);
    }
    [low, below] = [bound, count];
  }
  return low;
}

/** The last few minutes. */
export class Load {
  looks = [];
  series = { get: [], put: [], other: [], errors: [], refused: [], getP50: [], getP99: [], putP50: [], putP99: [] };

  add(samples, now) {
    const last = this.looks.at(-1);
    this.looks.push({ samples, now });
    if (this.looks.length > WINDOW + 1) this.looks.shift();
    if (!last) return;
    const restarted = total(samples, "quorate_uptime_seconds") < total(last.samples, "quorate_uptime_seconds");
    if (restarted) { this.looks = [{ samples, now }]; return; }
    const rate = (fits) => (total(samples, "quorate_requests_total", fits)
      - total(last.samples, "quorate_requests_total", fits)) / (now - last.now);
    const op = (name) => rate((series) => label(series, "op") === name);
    const get = op("get");
    const put = op("put") + op("delete");
    // What this page asks is not what people want to see here.
    const other = op("keys");
    const first = this.looks[0].samples;
    const news = { get, put, other,
      errors: rate((series) => SERIOUS.includes(label(series, "outcome"))),
      refused: rate((series) => ![...HARMLESS, ...SERIOUS].includes(label(series, "outcome"))),
      getP50: quantile(first, samples, "get", 0.5), getP99: quantile(first, samples, "get", 0.99),
      putP50: quantile(first, samples, "put", 0.5), putP99: quantile(first, samples, "put", 0.99) };
    for (const [name, value] of Object.entries(news)) {
      this.series[name].push(value);
      if (this.series[name].length > KEPT) this.series[name].shift();
    }
  }
}

/** Seconds for people. */
export function latency(seconds) {
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  return `${seconds.toFixed(1)} s`;
}

function nice(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].map((step) => step * power).find((bound) => most <= bound);
}

/** Draws lines that share one axis, which is at least `least` long; the newest values are listed. */
export function chart(svg, lines, unit, least) {
  const known = lines.flatMap(([, , values]) => values).filter((value) => value !== null);
  const most = nice(Math.max(...known, least));
  const [left, right, top, bottom] = [52, 396, 8, 92];
  const x = (back) => right - back * (right - left) / (KEPT - 1);
  const y = (value) => bottom - value / most * (bottom - top);
  const parts = [0, 0.5, 1].flatMap((share) => [
    el("line", { x1: left, x2: right, y1: y(share * most), y2: y(share * most) }),
    el("text", { x: left - 6, y: y(share * most) + 4, "text-anchor": "end" },
      share ? unit(share * most) : "0")]);
  const said = [];
  for (const [name, own, values] of lines) {
    let pen = "M";
    const d = values.map((value, at) => {
      if (value === null) { pen = "M"; return ""; }
      const step = `${pen}${x(values.length - 1 - at).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
      return step;
    }).join("");
    parts.push(el("path", { d, class: own }));
    const newest = values.at(-1);
    said.push([own, `${name} ${newest === null || newest === undefined ? "–" : unit(newest)}`]);
  }
  svg.setAttribute("aria-label", said.map(([, text]) => text).join(", "));
  svg.replaceChildren(...parts);
  svg.parentElement.querySelector(".legend").replaceChildren(
    ...said.map(([own, text]) => el("li", { class: own }, text)));
}
