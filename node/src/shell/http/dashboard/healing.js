// What is not where it should be yet: hints, replicas that differ, siblings.

import { $, age, bar, bytes, count, el, plural, show } from "/dashboard/element.js";
import { total } from "/dashboard/load.js";

const empty = (text) => el("p", { class: "empty" }, text);

/** A table of every node with every other; `cell` answers [class, text, title] or nothing. */
function matrix(view, corner, cell) {
  const names = view.order;
  const head = el(
    "tr",
    {},
    el("td", { class: "corner" }, el("span", { class: "hidden" }, corner)),
    ...names.map((name) =>
      el("th", { scope: "col", class: view.colour(name) }, el("i", { class: "chip" }), name),
    ),
  );
  const rows = names.map((row) =>
    el(
      "tr",
      {},
      el("th", { scope: "row", class: view.colour(row) }, el("i", { class: "chip" }), row),
      ...names.map((column) => {
        const [how, text, title] =
          row === column ? ["self", ""] : (cell(row, column) ?? ["none", "·"]);
        return el("td", { class: how, title }, text);
      }),
    ),
  );
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "group", "aria-label": corner },
    el("table", { class: "matrix" }, el("thead", {}, head), el("tbody", {}, ...rows)),
  );
}

/** Hints: a row for each node that keeps some, a column for each that is owed some. */
export function hints(view) {
  const rows = view.status.nodes.filter(({ hints_held }) => hints_held);
  const kept = rows.map(({ name, hints_for }) => [name, hints_for ?? {}]);
  const held = new Map(kept);
  show($("hints"), [kept, view.order], () =>
    kept.length
      ? matrix(view, "hints: who keeps writes for whom", (holder, owner) => {
          const number = held.get(holder)?.[owner];
          return number
            ? ["warn", count(number), `${holder} keeps ${plural(number, "write")} for ${owner}`]
            : undefined;
        })
      : empty("No hints: no node is owed a write."),
  );
}

/** How long ago each pair of replicas agreed; nothing is known of those that are away. */
export function sync(view, healing) {
  const pairs = new Map();
  for (const pair of healing.pairs) {
    const key = [pair.node, pair.peer].sort().join(" ");
    // Buckets of different n are compared apart; the worse of them counts.
    const before = pairs.get(key);
    if (
      !before ||
      (before.equal && !pair.equal) ||
      (before.agreed_ms_ago ?? Infinity) < (pair.agreed_ms_ago ?? Infinity)
    ) {
      pairs.set(key, pair);
    }
  }
  const rows = new Map([...pairs].map(([key, pair]) => [key, describe(view, pair)]));
  const { converged, reasons } = healing;
  const number = (how) => [...rows.values()].filter((row) => row[0] === how).length;
  const [differ, unknown] = [number("bad"), number("warn")];
  const moved = healing.pairs.reduce((sum, pair) => sum + pair.moved_keys, 0);
  const cost = healing.pairs.reduce((sum, pair) => sum + pair.moved_bytes, 0);
  show($("sync"), [[...rows], converged, reasons, view.order, moved, bytes(cost)], () => {
    if (!pairs.size) return empty("One node has nobody to compare itself with.");
    const text = converged
      ? "Every pair of replicas is equal."
      : differ
        ? `${plural(differ, "pair")} of replicas ${differ === 1 ? "differs" : "differ"}.`
        : unknown
          ? `Nothing is known of ${plural(unknown, "pair")} of replicas.`
          : `Not certain: ${reasons[0] ?? "some did not answer"}.`;
    return [
      el("p", { class: converged ? "good" : "warn" }, text),
      matrix(view, "pairs of replicas", (row, column) => rows.get([row, column].sort().join(" "))),
      el(
        "p",
        { class: "muted small" },
        `${plural(moved, "record")} moved, ${bytes(cost)} sent and received`,
      ),
    ];
  });
}

function describe(view, pair) {
  const agreed = pair.agreed_ms_ago === null ? "never" : short(pair.agreed_ms_ago / 1000);
  const away = [pair.node, pair.peer].filter((node) => view.stateOf(node) === "down");
  const state = away.length
    ? `not known, for ${away.join(" and ")} is down`
    : pair.equal
      ? "equal"
      : "different";
  const behind = pair.behind_keys ? `; ${plural(pair.behind_keys, "key")} behind` : "";
  const trouble = pair.trouble ? `; ${pair.trouble}` : "";
  const title = `${pair.node} and ${pair.peer}: ${state}; last agreed ${agreed}${behind}${trouble}`;
  const [how, sign] = away.length ? ["warn", "?"] : pair.equal ? ["good", "="] : ["bad", "≠"];
  return [how, `${sign} ${agreed}`, title];
}

/** An age short enough for a cell, and that does not change with every look. */
function short(seconds) {
  if (seconds < 5) return "now";
  return seconds < 60
    ? `${Math.floor(seconds / 5) * 5} s`
    : age(seconds).split(" ").slice(0, 2).join(" ");
}

/** Values that reads have found. */
export function siblings(samples) {
  const all = total(samples, "quorate_siblings_returned_count");
  const bars = [];
  let below = 0;
  let from = 1;
  for (const [name, sum] of samples) {
    const bound = name.match(/^quorate_siblings_returned_bucket\{le="([^"]+)"\}/)?.[1];
    if (!bound) continue;
    const most = Number(bound);
    const label =
      bound === "+Inf" ? `${from} or more` : most <= from ? `${most}` : `${from}–${most}`;
    if (below < sum || from === 1) bars.push([label, sum - below]);
    below = sum;
    from = most + 1;
  }
  const repairs = total(samples, "quorate_read_repairs_total");
  show($("siblings"), [bars, repairs], () =>
    all
      ? [
          el(
            "div",
            { class: "bars" },
            ...bars.flatMap(([label, here]) => [
              el("span", {}, label === "1" ? "1 value" : `${label} values`),
              bar(here / all),
              el("span", {}, `${count(here)}`),
            ]),
          ),
          el(
            "p",
            { class: "muted small" },
            `${plural(repairs, "replica")} brought up to date by reads`,
          ),
        ]
      : empty("No key has been read through this node yet."),
  );
}
