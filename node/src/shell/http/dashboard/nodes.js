// Everything about single nodes: cards, and what is wrong with them in words.

import { $, age, bytes, command, count, el, pill, plural, say, show } from "/dashboard/element.js";

const percent = (share) => `${(share * 100).toFixed(1)} %`;

/** A card for each node; pointing at one, or pressing its name, shows its share on the ring. */
export function nodes(view, ring) {
  const list = $("nodes");
  const { nodes } = view.status;
  say($("h-nodes"), plural(nodes.length, "node"));
  document.body.classList.toggle("many", 6 < nodes.length);
  show(
    list,
    nodes.map(({ name, address, zone, version, weight }) => [
      name,
      address,
      zone,
      version,
      weight,
      view.colour(name),
    ]),
    () => nodes.map((node) => card(node, view, ring)),
  );
  nodes.forEach((node, at) => update(list.children[at], node));
}

function card(node, view, ring) {
  const name = el(
    "button",
    { type: "button", class: "name", "aria-pressed": "false", title: "Show its share on the ring" },
    el("i", { class: "chip" }),
    node.name,
  );
  const item = el(
    "li",
    { class: `node ${view.colour(node.name)}` },
    el("h3", {}, name, el("span", { class: "is" })),
    el(
      "p",
      { class: "sub" },
      ...[
        node.address,
        `zone ${node.zone}`,
        node.weight === 1 ? null : `weight ${node.weight}`,
        node.version,
      ]
        .filter(Boolean)
        .flatMap((text) => [el("span", {}, text), " "]),
    ),
    el(
      "dl",
      { class: "stats" },
      ...["owns", "disk", "running"].map((what) =>
        el("div", {}, el("dt", {}, what), el("dd", { class: what })),
      ),
    ),
    el("ul", { class: "tags" }),
  );
  const press = (pressed) => {
    for (const button of $("nodes").querySelectorAll(".name"))
      button.setAttribute("aria-pressed", button === name && pressed);
    ring.focusOn(pressed ? node.name : null);
  };
  name.addEventListener("click", () => press(name.getAttribute("aria-pressed") !== "true"));
  item.addEventListener("pointerenter", () => ring.focusOn(node.name));
  item.addEventListener("pointerleave", () => {
    ring.focusOn($("nodes").querySelector(".name[aria-pressed=true]")?.textContent ?? null);
  });
  return item;
}

function update(item, node) {
  item.classList.toggle("down", node.state === "down");
  item.classList.toggle("suspect", node.state === "suspect");
  show(item.querySelector(".is"), node.state, () => pill(node.state));
  const silent = node.version === "";
  say(item.querySelector(".owns"), percent(node.owned));
  say(item.querySelector(".disk"), silent ? "–" : bytes(node.disk_bytes));
  say(
    item.querySelector(".running"),
    silent ? "–" : age(node.uptime_seconds).split(" ").slice(0, 2).join(" "),
  );
  const tags = [
    [node.hints_held, `keeps ${plural(node.hints_held, "hint")}`, "warn"],
    [node.hints_owed, `is owed ${plural(node.hints_owed, "hint")}`, "warn"],
    [node.behind_keys, `${plural(node.behind_keys, "key")} behind`, "warn"],
    [node.rebuilding, "rebuilding: its copies do not count", "bad"],
    [node.corrupt, `${plural(node.corrupt, "damaged record")} found`, "bad"],
    [node.set_aside, `${plural(node.set_aside, "record")} set aside`, "warn"],
  ].filter(([is]) => is);
  show(item.querySelector(".tags"), tags, () =>
    tags.map(([, text, how]) => el("li", { class: how }, text)),
  );
}

/** What people should know first: how bad it is, what it is, commands that help. */
export function notices(view) {
  const { nodes, cluster } = view.status;
  const found = nodes
    .filter(({ state }) => state === "down" || state === "suspect")
    .map((node) => away(view, node));
  for (const { name } of nodes.filter(({ rebuilding }) => rebuilding)) {
    const until = "until then its copies do not count for reads";
    found.push(["warn", `${name} lost data and takes it in again; ${until}.`]);
  }
  if (cluster.corrupt) {
    const what = plural(cluster.corrupt, "damaged record");
    const text = `${what} found, to be repaired from other replicas. To check everything:`;
    found.push(["bad", text, "quorate verify"]);
  }
  for (const { name, set_aside } of nodes.filter(({ set_aside }) => set_aside)) {
    const what = `${name} has set aside ${plural(set_aside, "record")}`;
    const text = `${what} that may have been deleted since. To see them:`;
    found.push(["info", text, `quorate salvage ${name}`]);
  }
  const waiting = nodes.filter(({ state, owned }) => state === "joining" && owned === 0);
  if (waiting.length && cluster.ring_state === "stable" && !view.transfers?.staged.length) {
    const names = waiting.map(({ name }) => name).join(", ");
    const text = `${names} joined and ${waiting.length === 1 ? "owns" : "own"} nothing yet.`;
    found.push(["info", `${text} To give a share:`, `quorate ring stage join ${waiting[0].name}`]);
  }
  return found;
}

function away(view, node) {
  const since = view.since.get(node.name);
  const is = `${node.name} is ${node.state}`;
  const text = since ? `${is} since ${new Date(since).toLocaleTimeString()}.` : `${is}.`;
  if (node.state === "suspect") {
    return ["warn", `${text} It has not answered its peers lately.`];
  }
  if (view.status.cluster.ring_state !== "stable") {
    const waits = "The change of the ring waits for it, or can be given up:";
    return ["bad", `${text} ${waits}`, "quorate ring abort"];
  }
  if (!node.owned) return ["warn", `${text} It owns nothing.`];
  const owed = node.hints_owed ? ` ${plural(node.hints_owed, "write")} for it wait on others.` : "";
  return [
    "bad",
    `${text} Its partitions run on their other replicas.${owed} If it will not come back:`,
    `quorate ring stage replace ${node.name} NEWNODE`,
    `quorate ring stage remove ${node.name} --dead`,
  ];
}

export function showNotices(found) {
  show($("notices"), found, () =>
    found.map(([how, text, ...commands]) =>
      el("li", { class: `notice ${how}` }, el("span", {}, text), ...commands.map(command)),
    ),
  );
}

/** The head of the page. */
export function summary(view) {
  const { cluster, nodes, answered_by } = view.status;
  const up = nodes.filter(({ state }) => !["down", "suspect"].includes(state)).length;
  const text =
    up === nodes.length ? `All ${nodes.length} nodes up` : `${up} of ${nodes.length} nodes up`;
  say($("cluster"), cluster.name);
  document.title = `${up}/${nodes.length} up · ${cluster.name} · Quorate`;
  $("summary").className = up === nodes.length ? "good" : "bad";
  say($("summary"), text);
  say(
    $("facts"),
    [
      `ring ${cluster.epoch} ${cluster.ring_state}`,
      cluster.hints ? plural(cluster.hints, "hint") : "no hints",
      cluster.corrupt ? `${count(cluster.corrupt)} damaged` : "nothing damaged",
    ].join(" · "),
  );
  for (const me of document.getElementsByClassName("me")) say(me, answered_by);
}
