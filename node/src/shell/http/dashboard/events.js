// The log: server-sent events, read by hand, for the browser's own reader cannot send a token.

import { $, el, plural, tone } from "/dashboard/element.js";

const KEPT = 200;
const ALARMS = /corrupt|differ|damaged|failed|fork|forced/;

function words({ kind, node, state, epoch, count, ...rest }) {
  if (kind === "membership") return `${node} is ${state}`;
  if (kind === "ready") return "ready to serve";
  if (kind === "ring") return `ring ${epoch} is ${state}`;
  if (kind === "many_siblings") return `a key (${rest.key}) has ${plural(count, "sibling")}`;
  const what = [
    node,
    epoch && `ring ${epoch}`,
    count,
    ...Object.entries(rest).map(([name, value]) => `${name} ${value}`),
  ];
  return [kind.replaceAll("_", " "), ...what.filter(Boolean)].join(" · ");
}

function tell(entry, view) {
  const { number, at, seen_by, ...event } = entry;
  if (event.kind === "membership") view.since.set(event.node, at);
  const how = ALARMS.test(event.kind)
    ? "bad"
    : event.kind === "ring"
      ? "info"
      : event.kind === "many_siblings"
        ? "warn"
        : event.state
          ? tone(event.state)
          : "good";
  const time = new Date(at);
  const today = time.toDateString() === new Date().toDateString();
  const item = el(
    "li",
    {},
    el(
      "time",
      { datetime: at, title: at },
      today ? time.toLocaleTimeString() : time.toLocaleString(),
    ),
    el("span", { class: `bullet ${how}`, "aria-hidden": "true" }),
    el("span", {}, words(event)),
  );
  $("events").prepend(item);
  $("no-events").hidden = true;
  while (KEPT < $("events").children.length) $("events").lastChild.remove();
}

/** Listens for ever, whenever there is a token. */
export async function listen(view) {
  let after = 0;
  for (;;) {
    try {
      const headers = { Authorization: `Bearer ${view.token}`, "Last-Event-ID": String(after) };
      const response = view.token ? await fetch("/events", { headers }) : { ok: false };
      if (response.ok) {
        $("events").replaceChildren();
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        for (let text = ""; ;) {
          const { done, value } = await reader.read();
          if (done) break;
          const blocks = (text + value).split("\n\n");
          text = blocks.pop();
          for (const block of blocks) {
            const data = block.match(/^data: (.*)$/m)?.[1];
            const id = block.match(/^id: (\d+)$/m)?.[1];
            if (id && data) {
              after = Number(id);
              tell(JSON.parse(data), view);
            }
          }
        }
      }
    } catch {
      /* The node has gone; perhaps it comes back. */
    }
    // What it says next is numbered from one again if it was another process.
    after = 0;
    await new Promise((resolve) => {
      setTimeout(resolve, 2000);
    });
  }
}
