// The dashboard: asks the node that served it, once a second, and draws what it says.
//
// Reads only. The token comes in the fragment of the address, which browsers send to nobody, and
// is kept for this tab alone.

import { el } from "/dashboard/element.js";
import { chart, latency, Load, parse, total } from "/dashboard/load.js";
import { mark, ring, select } from "/dashboard/ring.js";

const $ = (id) => document.getElementById(id);
const state = { token: "", status: null, ring: null, previous: null, moved: new Set(), order: [] };
const load = new Load();

const colour = (node) => `o${Math.max(0, state.order.indexOf(node)) % 8}`;
const stateOf = (name) => state.status?.nodes.find((node) => node.name === name)?.state ?? "unknown";
const tone = (word) => ({ up: "good", present: "good", down: "bad", unreadable: "bad" })[word] ?? "warn";
const sign = (word) => ({ up: "●", down: "✕", suspect: "◐" })[word] ?? "○";

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (1024 <= count && at < units.length - 1) { count /= 1024; at += 1; }
  return `${count < 10 && at ? count.toFixed(1) : Math.round(count)} ${units[at]}`;
}

function age(seconds) {
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["m", 60]]) {
    if (length <= seconds) {
      const rest = unit === "m" ? ` ${Math.floor(seconds % 60)}s` : "";
      return `${Math.floor(seconds / length)}${unit}${rest}`;
    }
  }
  return `${Math.floor(seconds)}s`;
}

async function ask(path) {
  const response = await fetch(path, { headers: { Authorization: `Bearer ${state.token}` } });
  if (response.status === 401 || response.status === 403) throw Object.assign(new Error(), { denied: true });
  const json = await response.json();
  if (!response.ok) throw new Error(json.error?.message ?? response.statusText);
  return json;
}

function showNodes() {
  $("nodes").replaceChildren(...state.status.nodes.map((node) => {
    const facts = [
      ["address", node.address], ["zone", node.zone], ["owns", `${(node.owned * 100).toFixed(1)} %`],
      ["disk", bytes(node.disk_bytes)], ["uptime", age(node.uptime_seconds)],
      ["hints held / owed", `${node.hints_held} / ${node.hints_owed}`],
      ["corrupt", node.corrupt, node.corrupt > 0], ["version", node.version],
    ];
    if (node.rebuilding) facts.push(["rebuilding", "copies do not count", true]);
    const silent = node.version === "";
    const rows = facts.filter((_, at) => !silent || at < 3).flatMap(([name, value, bad]) =>
      [el("dt", {}, name), el("dd", { class: bad ? "bad" : "" }, String(value))]);
    const pill = el("span", { class: `state ${tone(node.state)}` }, `${sign(node.state)} ${node.state}`);
    return el("li", { class: `${colour(node.name)} ${node.state}` },
      el("h3", {}, node.name, pill), el("dl", {}, ...rows));
  }));
  $("behind").tBodies[0].replaceChildren(...state.status.nodes.map((node) => el("tr", {},
    el("td", { class: `swatch ${colour(node.name)}` }, node.name),
    ...[node.hints_held, node.hints_owed, node.behind_keys, node.corrupt]
      .map((count) => el("td", { class: count ? "warn" : "" }, String(count))))));
}

function showSummary() {
  const { cluster, nodes, answered_by } = state.status;
  const up = nodes.filter((node) => node.state === "up").length;
  $("cluster").textContent = cluster.name;
  document.title = `${up}/${nodes.length} up · ${cluster.name} · Quorate`;
  const text = `${up} of ${nodes.length} nodes up · ring ${cluster.epoch}, ${cluster.ring_state} · `
    + `${cluster.hints} hints · ${cluster.corrupt} corrupt`;
  if ($("summary").textContent !== text) $("summary").textContent = text;
  $("summary").className = up === nodes.length ? "good" : "bad";
  for (const me of document.getElementsByClassName("me")) me.textContent = answered_by;
}

function showRing() {
  ring($("ring"), { ...state, colour, stateOf });
  $("legend").replaceChildren(...state.order.map((name) => el("li", { class: colour(name) },
    `${name}${stateOf(name) === "up" ? "" : ` (${stateOf(name)})`}`)));
}

/** What changed hands since the ring before this one. */
function moves(before, after) {
  const moved = new Set();
  if (before && before.epoch !== after.epoch && before.partitions.length === after.partitions.length) {
    after.partitions.forEach((partition, at) => {
      if (partition.replicas.join() !== before.partitions[at].replicas.join()) moved.add(at);
    });
  }
  return moved;
}

async function poll() {
  try {
    const [status, metrics] = await Promise.all([
      ask("/v1/status"), fetch("/metrics").then((response) => response.text()),
    ]);
    const changed = JSON.stringify(status.nodes.map((node) => [node.name, node.state]))
      !== JSON.stringify(state.status?.nodes.map((node) => [node.name, node.state]));
    state.status = status;
    const epoch = state.ring?.epoch;
    if (epoch !== status.cluster.epoch || state.ring.state !== status.cluster.ring_state) {
      const next = await ask("/v1/ring");
      if (next.epoch !== epoch) state.moved = moves(state.ring, next);
      state.ring = next;
    }
    state.order = state.ring.nodes.map((node) => node.name).sort();
    if (changed || epoch !== state.ring.epoch) showRing();
    showNodes();
    showSummary();
    showLoad(parse(metrics));
    $("main").hidden = false;
    $("ask-token").hidden = true;
  } catch (error) {
    if (error.denied) return demand("That token is not accepted here.");
    $("summary").textContent = "This node does not answer; trying again …";
    $("summary").className = "bad";
  }
  setTimeout(poll, 1000);
}

function showLoad(samples) {
  load.add(samples, performance.now() / 1000);
  const per = (count) => `${0 < count && count < 10 ? count.toFixed(1) : Math.round(count)}/s`;
  chart($("c-rate"), [["get", "o0", load.series.get], ["put", "o1", load.series.put],
    ["other", "o4", load.series.other]], per, 10);
  chart($("c-latency"), [["get p50", "o6", load.series.getP50], ["get p99", "o0", load.series.getP99],
    ["put p50", "o5", load.series.putP50], ["put p99", "o1", load.series.putP99]], latency, 0.001);
  chart($("c-errors"), [["failed", "obad", load.series.errors],
    ["refused", "o1", load.series.refused]], per, 1);
  const rows = [...samples].filter(([name]) => /^quorate_(hints|antientropy|read_repairs)_/.test(name)
    && !/_bucket|_created/.test(name));
  $("sync-metrics").replaceChildren(...rows.flatMap(([name, value]) => [
    el("dt", {}, name.replace(/^quorate_/, "").replace("_total", "").replace(/\{.*?="(.*)"\}/, ", $1").replaceAll("_", " ")),
    el("dd", {}, String(value))]));
  showSiblings(samples);
}

function showSiblings(samples) {
  const all = total(samples, "quorate_siblings_returned_count");
  if (!all) {
    $("siblings").replaceChildren(el("p", { class: "muted" }, "No key has been read yet."));
    return;
  }
  let below = 0;
  let from = 1;
  const bars = [];
  for (const [name, count] of samples) {
    const bound = name.match(/^quorate_siblings_returned_bucket\{le="([^"]+)"\}/)?.[1];
    if (!bound) continue;
    const most = Number(bound);
    const label = bound === "+Inf" ? `${from} or more` : from >= most ? `${most}` : `${from}–${most}`;
    const here = count - below;
    if (here > 0 || from === 1) {
      bars.push(el("span", {}, label), el("meter", { min: 0, max: all, value: here,
        "aria-label": `${label} siblings` }), el("span", {}, String(here)));
    }
    below = count;
    from = most + 1;
  }
  $("siblings").replaceChildren(el("div", { class: "bars" }, ...bars));
}

function showPath(found) {
  const versions = (replica) => replica.versions.map((version) => el("li", {},
    el("code", {}, version.dot), ` ${version.tombstone ? "tombstone, " : ""}${version.written_at}`));
  const replicas = found.replicas.map((replica, at) => el("li", { class: colour(replica.node) },
    el("div", { class: "row" }, el("b", {}, replica.node), `${at + 1}. ${replica.role}`,
      el("span", { class: tone(replica.state) }, replica.state),
      el("span", { class: "muted" }, `${replica.versions.length} version${replica.versions.length === 1 ? "" : "s"}`)),
    el("ul", { class: "versions" }, ...versions(replica))));
  const fallbacks = found.fallbacks.map((node) => el("li", { class: `fallback ${colour(node)}` },
    el("div", { class: "row" }, el("b", {}, node), "fallback",
      el("span", { class: tone(stateOf(node)) }, stateOf(node)))));
  $("path").replaceChildren(el("p", {}, "token ", el("code", {}, found.token),
    ` · partition ${found.partition} of ${state.ring.partitions.length}`),
  el("ol", {}, ...replicas, ...fallbacks));
  mark($("ring"), state, found.token);
  choose(found.partition);
}

function choose(partition) {
  const count = state.ring?.partitions.length;
  if (!count) return;
  state.chosen = (partition + count) % count;
  select($("ring"), state, state.chosen);
  const { replicas } = state.ring.partitions[state.chosen];
  $("partition").textContent = `partition ${state.chosen}: ${replicas.join(", ")}`;
}

$("explain").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [bucket, key] = [$("bucket").value, $("key").value].map(encodeURIComponent);
  try {
    showPath(await ask(`/v1/explain/${bucket}/${key}`));
  } catch (error) {
    $("path").replaceChildren(el("p", { class: "bad" }, error.message || "not permitted"));
  }
});

$("ring").addEventListener("keydown", (event) => {
  const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (by) { event.preventDefault(); choose((state.chosen ?? -1) + by); }
});
$("ring").addEventListener("pointermove", (event) => {
  const partition = event.target.dataset?.partition;
  if (partition !== undefined) choose(Number(partition));
});

function tell(event) {
  const { number, at, kind, seen_by, ...rest } = event;
  const what = kind === "membership" ? `${rest.node} is ${rest.state}`
    : [kind.replaceAll("_", " "), ...Object.entries(rest).map(([name, value]) => `${name} ${value}`)].join(" · ");
  const bad = rest.state === "down" || /corrupt|differ|damaged|failed/.test(kind);
  const item = el("li", {}, el("time", { datetime: at }, new Date(at).toLocaleTimeString()),
    el("span", { class: bad ? "bad" : rest.state ? tone(rest.state) : "" }, what));
  $("events").prepend(item);
  while ($("events").children.length > 200) $("events").lastChild.remove();
}

/** Server-sent events, read by hand: the browser's own reader cannot send a token. */
async function listen(after) {
  try {
    const headers = { Authorization: `Bearer ${state.token}`, "Last-Event-ID": String(after) };
    const response = await fetch("/events", { headers });
    if (!response.ok) return;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ;) {
      const { done, value } = await reader.read();
      if (done) break;
      const blocks = (text + value).split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const data = block.match(/^data: (.*)$/m)?.[1];
        const id = block.match(/^id: (\d+)$/m)?.[1];
        if (id && data) { after = Number(id); tell(JSON.parse(data)); }
      }
    }
  } catch { /* the node has gone; perhaps it comes back, with events of its own */
    after = 0;
  }
  setTimeout(listen, 2000, after);
}

function demand(why) {
  sessionStorage.removeItem("quorate-token");
  if (why) $("token-why").textContent = why;
  $("summary").textContent = "";
  $("main").hidden = true;
  $("ask-token").hidden = false;
  $("token").focus();
}

function open(token) {
  state.token = token;
  sessionStorage.setItem("quorate-token", token);
  poll();
  listen(0);
}

$("ask-token").addEventListener("submit", (event) => {
  event.preventDefault();
  open($("token").value.trim());
});

const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) history.replaceState(null, "", location.pathname);
const token = given || sessionStorage.getItem("quorate-token");
if (token) open(token); else demand("");
