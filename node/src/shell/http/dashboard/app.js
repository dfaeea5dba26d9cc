// The dashboard: asks the node that served it, once a second, and draws what it says.
//
// Reads only. The token comes in the fragment of the address, which browsers send to nobody, and
// is kept for this tab alone.

import { change } from "/dashboard/change.js";
import { Chart } from "/dashboard/chart.js";
import { $, age, count, el, latency, say, show } from "/dashboard/element.js";
import { listen } from "/dashboard/events.js";
import { hints, siblings, sync } from "/dashboard/healing.js";
import { failures, Load, parse } from "/dashboard/load.js";
import { nodes, notices, showNotices, summary } from "/dashboard/nodes.js";
import { path } from "/dashboard/path.js";
import { RingView } from "/dashboard/ring.js";

const COLOURS = 12;
/** Milliseconds between two looks, and between two at what costs every node an answer. */
const LOOK = 1000;
const LOOK_DEEP = 3000;

/** What all parts of the page know. */
const view = {
  token: "",
  status: null,
  ring: null,
  transfers: null,
  order: [],
  since: new Map(),
  seen: 0,
  colour: (node) => `o${Math.max(0, view.order.indexOf(node)) % COLOURS}`,
  stateOf: (name) => view.status?.nodes.find((node) => node.name === name)?.state ?? "unknown",
  clear() {
    $("path").replaceChildren();
    $("key").value = "";
    ring.mark(null);
    $("key").focus();
  },
};
const ring = new RingView(view);
const load = new Load();
const per = (number) =>
  `${0 < number && number < 10 ? number.toFixed(1) : count(Math.round(number))}/s`;
const charts = [
  new Chart(
    $("c-rate"),
    [
      ["get", "o0", "get"],
      ["put", "o1", "put"],
      ["keys", "o4", "other"],
    ],
    per,
    10,
  ),
  new Chart(
    $("c-latency"),
    [
      ["get p50", "o6", "getP50"],
      ["get p99", "o0", "getP99"],
      ["put p50", "o9", "putP50"],
      ["put p99", "o1", "putP99"],
    ],
    latency,
    0.001,
  ),
  new Chart(
    $("c-errors"),
    [
      ["failed", "obad", "failed"],
      ["refused", "o1", "refused"],
    ],
    per,
    1,
  ),
];

class Denied extends Error {}

async function ask(path) {
  const response = await fetch(path, { headers: { Authorization: `Bearer ${view.token}` } });
  const json = await response.json();
  if (response.status === 401 || response.status === 403) throw new Denied(json.error?.message);
  if (!response.ok)
    throw Object.assign(new Error(json.error?.message ?? response.statusText), { answered: true });
  return json;
}

/** Asks for what the last answers gave reason to ask for. */
async function look() {
  const [status, metrics] = await Promise.all([
    ask("/v1/status"),
    fetch("/metrics").then((response) => response.text()),
  ]);
  const { epoch, ring_state } = status.cluster;
  if (!view.ring || view.ring.epoch !== epoch || view.ring.state !== ring_state)
    view.ring = await ask("/v1/ring");
  view.status = status;
  const known = [...status.nodes, ...view.ring.nodes].map(({ name }) => name);
  view.order = [...new Set(known)].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  status.nodes.sort((a, b) => view.order.indexOf(a.name) - view.order.indexOf(b.name));
  const now = performance.now() / 1000;
  const samples = parse(metrics);
  load.add(samples, now);
  view.seen = Date.now();
  $("main").hidden = false;
  document.body.classList.remove("stale");
  summary(view);
  showNotices(notices(view));
  nodes(view, ring);
  ring.draw();
  hints(view);
  siblings(samples);
  for (const chart of charts) chart.draw(load.series, now);
  showFailures(samples);
}

function showFailures(samples) {
  const found = failures(samples);
  const figure = $("c-errors");
  const note =
    figure.querySelector(".since") ?? figure.appendChild(el("p", { class: "since muted small" }));
  show(note, found, () =>
    found.length
      ? [
          `Since the node began: ${found
            .slice(0, 4)
            .map(([op, word, many]) => `${op} ${word.replaceAll("_", " ")} ${count(many)}`)
            .join(", ")}`,
        ]
      : ["None since the node began."],
  );
}

async function lookDeep() {
  const [healing, transfers] = await Promise.all([ask("/v1/healing"), ask("/v1/transfers")]);
  let plan = null;
  if (transfers.staged.length && transfers.state === "stable") {
    plan = await ask("/v1/plan").catch((error) => ({ error: error.message }));
  }
  view.transfers = transfers;
  if (!view.ring) return;
  sync(view, healing);
  change(view, transfers, plan);
}

function trouble(error) {
  if (error instanceof Denied) {
    demand(error.message);
    return;
  }
  document.body.classList.add("stale");
  const me = view.status?.answered_by ?? "This node";
  $("summary").className = "bad";
  say($("summary"), error.answered ? `${me} cannot say` : `${me} does not answer`);
  const why = error.answered
    ? `${me} answers: ${error.message}.`
    : `${me} does not answer. Other nodes may still serve; each has this page.`;
  const seen = new Date(view.seen).toLocaleTimeString();
  const since = view.seen ? ` What you see is from ${seen}.` : "";
  showNotices([["bad", `${why}${since} Trying again.`]]);
}

/** Repeats for as long as there is a token; less often while nobody looks at the page. */
async function repeat(what, every) {
  const token = view.token;
  while (view.token === token) {
    try {
      await what();
    } catch (error) {
      if (view.token === token) trouble(error);
    }
    const patience = document.hidden ? 10 : 1;
    await new Promise((resolve) => {
      setTimeout(resolve, every * patience);
    });
  }
}

function freshness() {
  if (!view.seen || !view.token) {
    say($("seen"), "");
    return;
  }
  const late = (Date.now() - view.seen) / 1000;
  say($("seen"), `seen by ${view.status.answered_by}, ${late < 3 ? "live" : `${age(late)} ago`}`);
}

$("explain").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [bucket, key] = [$("bucket").value, $("key").value].map(encodeURIComponent);
  try {
    const found = await ask(`/v1/explain/${bucket}/${key}`);
    path(found, view);
    ring.mark(found);
  } catch (error) {
    if (error instanceof Denied) {
      demand(error.message);
      return;
    }
    ring.mark(null);
    const text = error.answered ? error.message : "This node does not answer.";
    $("path").replaceChildren(el("p", { class: "bad" }, text));
  }
});

$("bucket").addEventListener("focus", async () => {
  try {
    const { buckets } = await ask("/v1/buckets");
    const [chosen, names] = [$("bucket").value, buckets.map(({ name }) => name)];
    show($("bucket"), names, () => names.map((name) => el("option", {}, name)));
    if (names.includes(chosen)) $("bucket").value = chosen;
  } catch {
    /* Those known so far stay. */
  }
});

document.addEventListener("keydown", (event) => {
  if (
    event.key !== "/" ||
    event.ctrlKey ||
    event.metaKey ||
    /INPUT|SELECT/.test(document.activeElement?.tagName)
  )
    return;
  if ($("main").hidden) return;
  event.preventDefault();
  $("key").focus();
});

function demand(why) {
  view.token = "";
  sessionStorage.removeItem("quorate-token");
  say($("token-why"), why ? `The one given is not accepted: ${why}.` : "");
  say($("summary"), "");
  say($("facts"), "");
  document.title = "Quorate";
  showNotices([]);
  $("main").hidden = true;
  $("ask-token").hidden = false;
  $("token").value = "";
  $("token").focus();
}

function open(token) {
  view.token = token;
  sessionStorage.setItem("quorate-token", token);
  $("ask-token").hidden = true;
  $("summary").className = "";
  say($("summary"), "Connecting …");
  repeat(look, LOOK);
  repeat(lookDeep, LOOK_DEEP);
}

$("ask-token").addEventListener("submit", (event) => {
  event.preventDefault();
  open($("token").value.trim());
});

const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) history.replaceState(null, "", location.pathname);
const token = given || sessionStorage.getItem("quorate-token");
setInterval(freshness, 1000);
if (token) open(token);
else demand("");
listen(view);
