// What is staged, and how far a change under way is.

import { $, bar, bytes, command, el, plural, say, show } from "/dashboard/element.js";

const percent = (share) => `${(share * 100).toFixed(1)} %`;

/** `plan` is there only while something is staged and could be committed. */
export function change(view, transfers, plan) {
  const under = transfers.state !== "stable";
  say(
    $("h-change"),
    under ? "Change under way" : transfers.staged.length ? "Staged change" : "Change of the ring",
  );
  $("change").classList.toggle("quiet", !under && !transfers.staged.length);
  show($("change-body"), [transfers, plan], () =>
    under
      ? underWay(view, transfers)
      : transfers.staged.length
        ? staged(view, transfers, plan)
        : el("p", { class: "empty" }, `Nothing is staged. The last change: ${transfers.note}.`),
  );
}

function underWay(view, { note, state, epoch, transfers }) {
  const place = ({ node }) => view.order.indexOf(node);
  const sorted = [...transfers].sort((a, b) => place(a) - place(b));
  const idle = sorted.filter((row) => row.adopted && !row.total);
  const busy = sorted.filter((row) => !idle.includes(row));
  const unknown = busy.some((row) => !row.adopted);
  const done = busy.reduce((sum, row) => sum + row.done, 0);
  const all = busy.reduce((sum, row) => sum + row.total, 0);
  const step =
    state === "moving"
      ? "new owners take in data; reads ask the old ones, writes need both"
      : "reads ask the new owners, writes need both";
  const heads = ["node", "state", "", "taken in", "bytes"];
  return [
    el("p", {}, el("b", {}, note), ` · ring ${epoch}, ${state}: ${step}.`),
    all && !unknown
      ? el("div", { class: "whole" }, bar(done / all, `${done} of ${all} transfers`))
      : null,
    busy.length
      ? table(
          heads,
          busy.map((row) => transfer(view, row)),
        )
      : null,
    idle.length ? el("p", { class: "muted small" }, `Nothing to take in: ${list(idle)}`) : null,
    el("p", { class: "next" }, "To stop it ", command("quorate ring abort")),
  ];
}

const list = (rows) => rows.map(({ node }) => node).join(", ");

function transfer(view, row) {
  const state = row.adopted ? "takes part" : "has not said how far it is";
  return el(
    "tr",
    {},
    el("th", { scope: "row", class: view.colour(row.node) }, el("i", { class: "chip" }), row.node),
    el("td", { class: row.up ? "" : "bad" }, row.up ? state : `down, ${state}`),
    el("td", { class: "bar" }, row.total ? bar(row.done / row.total) : null),
    el("td", {}, row.total ? `${row.done} of ${row.total}` : "–"),
    el("td", {}, row.adopted ? bytes(row.bytes) : "–"),
  );
}

function staged(view, { staged }, plan) {
  const list = el("ul", { class: "plain" }, ...staged.map((text) => el("li", {}, text)));
  const discard = el("p", { class: "next" }, "Discard ", command("quorate ring unstage"));
  if (!plan) return [list, discard];
  if (plan.error)
    return [list, el("p", { class: "bad" }, `No plan can be made of it: ${plan.error}`), discard];
  const most = Math.max(...plan.nodes.flatMap(({ before, after }) => [before, after]), 1);
  const place = ({ name }) => view.order.indexOf(name);
  const nodes = [...plan.nodes].sort((a, b) => place(a) - place(b));
  const rows = nodes.map((node) =>
    el(
      "tr",
      {},
      el(
        "th",
        { scope: "row", class: view.colour(node.name) },
        el("i", { class: "chip" }),
        node.name,
        node.before ? null : el("span", { class: "pill info" }, "new"),
      ),
      el("td", {}, node.zone),
      el("td", {}, String(node.before)),
      el("td", {}, String(node.after)),
      el("td", { class: "bar" }, bar(node.after / most)),
      el("td", {}, node.in ? `+${node.in}` : "·"),
      el("td", {}, node.out ? `−${node.out}` : "·"),
    ),
  );
  const fact = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));
  return [
    list,
    el(
      "div",
      { class: "plan" },
      table(["node", "zone", "now", "after", "", "in", "out"], rows),
      el(
        "dl",
        { class: "facts" },
        fact("replicas to move", `${plural(plan.moves.length, "replica")}, ${bytes(plan.bytes)}`),
        fact(
          "share of all",
          `${percent(plan.moved_share)} (least possible ${percent(plan.minimum_share)})`,
        ),
        fact(
          "fullest node over the mean",
          `${plan.balance_before.toFixed(2)} → ${plan.balance_after.toFixed(2)}`,
        ),
      ),
    ),
    ...plan.warnings.map((text) => el("p", { class: "warn" }, `! ${text}`)),
    el("p", { class: "next" }, "Apply ", command(plan.commit)),
    discard,
  ];
}

function table(heads, rows) {
  return el(
    "div",
    { class: "scroll" },
    el(
      "table",
      {},
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          ...heads.map((head) => (head ? el("th", { scope: "col" }, head) : el("td", {}))),
        ),
      ),
      el("tbody", {}, ...rows),
    ),
  );
}
