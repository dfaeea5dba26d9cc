// The ring as a drawing: one arc for each replica of each partition, the first replica outermost.

import { el } from "/dashboard/element.js";

const OUTER = 166;
const WIDTH = 26;
const GAP = 3;

const at = (radius, turn) => {
  const angle = turn * 2 * Math.PI - Math.PI / 2;
  return `${(radius * Math.cos(angle)).toFixed(2)} ${(radius * Math.sin(angle)).toFixed(2)}`;
};

const arc = (from, to, outer, inner) => `M${at(outer, from)} A${outer} ${outer} 0 0 1 ${at(outer, to)} `
  + `L${at(inner, to)} A${inner} ${inner} 0 0 0 ${at(inner, from)} Z`;

const shown = (state) => Math.min(3, state.ring.partitions[0].replicas.length);
const innermost = (rows) => OUTER - rows * (WIDTH + GAP) + GAP;

/** Draws everything anew; a choice and a key's mark stay. */
export function ring(svg, state) {
  const { partitions } = state.ring;
  const rows = shown(state);
  const kept = [...svg.querySelectorAll(".mark, .token, .dot")];
  const paths = partitions.flatMap(({ partition, replicas }) => replicas.slice(0, rows).map((node, row) => {
    const outer = OUTER - row * (WIDTH + GAP);
    const [from, to] = [partition / partitions.length, (partition + 1) / partitions.length];
    const moved = state.moved.has(partition) ? "moved" : "";
    const path = el("path", { d: arc(from, to, outer, outer - WIDTH),
      class: `${state.colour(node)} ${state.stateOf(node)} ${moved}` });
    path.dataset.partition = partition;
    return path;
  }));
  svg.replaceChildren(...paths,
    el("text", { y: -2 }, `${partitions.length} partitions`),
    el("text", { y: 16, class: "muted" }, `ring ${state.ring.epoch} · ${state.ring.state}`), ...kept);
  svg.setAttribute("aria-label",
    `The ring: ${partitions.length} partitions over ${state.order.length} nodes`);
}

/** Frames one partition. */
export function select(svg, state, partition) {
  const count = state.ring.partitions.length;
  svg.querySelector(".mark")?.remove();
  const d = arc(partition / count, (partition + 1) / count, OUTER + 3, innermost(shown(state)) - 3);
  svg.append(el("path", { d, class: "mark", "pointer-events": "none" }));
}

/** Shows where a token lies. */
export function mark(svg, state, token) {
  const turn = Number(BigInt(token) >> 11n) / 2 ** 53;
  svg.querySelectorAll(".token, .dot").forEach((old) => old.remove());
  const [x1, y1] = at(OUTER + 2, turn).split(" ");
  const [x2, y2] = at(OUTER + 9, turn).split(" ");
  svg.append(el("line", { x1, y1, x2, y2, class: "token", "pointer-events": "none" }),
    el("circle", { cx: x2, cy: y2, r: 4, class: "dot", "pointer-events": "none" }));
}
