// Where a key lives: token, partition, replicas, and whether they agree.

import { $, age, el, pill, plural } from "/dashboard/element.js";

const dots = (replica) =>
  replica.versions
    .map(({ dot }) => dot)
    .sort()
    .join(" ");

function verdict(found) {
  const answered = found.replicas.filter(
    ({ state }) => !["down", "silent", "unreadable", "suspect"].includes(state),
  );
  const missing = found.replicas.length - answered.length;
  const silent = missing ? ` ${plural(missing, "replica")} did not answer.` : "";
  if (!answered.length) return ["bad", "No replica answered."];
  const kinds = new Set(answered.map(dots));
  if (1 < kinds.size) {
    return [
      "warn",
      `The replicas differ; the next read, or anti-entropy, brings them together.${silent}`,
    ];
  }
  const versions = answered[0].versions;
  const live = versions.filter(({ tombstone }) => !tombstone).length;
  const what = !versions.length
    ? "No replica has it: nobody has written this key."
    : !live
      ? "It is deleted: only a tombstone is left."
      : live === 1
        ? `All that answered hold the same version.`
        : `${live} siblings, written concurrently; the next write with a context replaces them.`;
  return [missing ? "warn" : 1 < live ? "warn" : "good", what + silent];
}

/** Actors have long names; their beginnings tell them apart. */
const shortDot = (dot) => dot.replace(/^([0-9a-f]{6})[0-9a-f]{26}/, "$1…");

function version({ dot, written_at, tombstone }) {
  const seconds = (Date.now() - new Date(written_at)) / 1000;
  const ago = Number.isFinite(seconds) && 0 <= seconds ? `${age(seconds)} ago` : written_at;
  return el(
    "li",
    {},
    tombstone ? el("b", {}, "tombstone ") : null,
    el("code", { title: dot }, shortDot(dot)),
    el("time", { datetime: written_at, title: written_at }, ago),
  );
}

export function path(found, view) {
  const replicas = found.replicas.map((replica, at) =>
    el(
      "li",
      { class: `stop ${view.colour(replica.node)}` },
      el("h3", {}, el("i", { class: "chip" }), replica.node, pill(replica.state)),
      el(
        "p",
        { class: "sub" },
        `${at + 1}. ${replica.role} · ${plural(replica.versions.length, "version")}`,
      ),
      el("ul", { class: "versions" }, ...replica.versions.map(version)),
    ),
  );
  const [how, text] = verdict(found);
  const step = (name, value) =>
    el("li", { class: "step" }, el("span", { class: "muted" }, name), el("code", {}, value));
  const clear = el("button", { type: "button", class: "quiet" }, "Clear");
  clear.addEventListener("click", () => view.clear());
  const fallbacks = found.fallbacks.length
    ? el(
        "p",
        { class: "muted small" },
        "If they are away: ",
        ...found.fallbacks.flatMap((node) => [
          el("span", { class: `who ${view.colour(node)}` }, el("i", { class: "chip" }), node),
          " ",
        ]),
      )
    : null;
  $("path").replaceChildren(
    el("div", { class: "verdict" }, el("p", { class: how }, text), clear),
    el(
      "ol",
      { class: "route" },
      step("key", `${found.bucket}/${found.key ?? `base64 ${found.key_base64}`}`),
      step("token", found.token),
      step("partition", `${found.partition} of ${view.ring.partitions.length}`),
    ),
    el("ol", { class: "stops" }, ...replicas),
    fallbacks ?? "",
  );
}
