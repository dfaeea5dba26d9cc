// The ring as a drawing: an arc for each replica of each partition, the first replica outermost.
// Outside of it a narrow band shows what moves, in the colour of who takes it in.

import { $, el, say, show } from "/dashboard/element.js";

const OUTER = 172;
const ROWS = [40, 15, 15];
const GAP = 3;
const BAND = [OUTER + 5, OUTER + 11];
/** Most partitions drawn; with more of them, one stands for several. */
const DRAWN_MAX = 1024;
/** Least part of the ring that a chosen partition is drawn as. */
const WEDGE_MIN = 1 / 64;
/** With more partitions than this, seams between them would be all one sees. */
const SEAMS_MAX = 128;

const at = (radius, turn) => {
  const angle = turn * 2 * Math.PI - Math.PI / 2;
  return `${(radius * Math.cos(angle)).toFixed(2)} ${(radius * Math.sin(angle)).toFixed(2)}`;
};

const arc = (from, to, outer, inner) =>
  `M${at(outer, from)} A${outer} ${outer} 0 0 1 ${at(outer, to)} ` +
  `L${at(inner, to)} A${inner} ${inner} 0 0 0 ${at(inner, from)} Z`;

export class RingView {
  svg = $("ring");
  chosen = null;
  found = null;
  focus = null;

  /** `view` knows colours and states. */
  constructor(view) {
    this.view = view;
    this.svg.addEventListener("keydown", (event) => {
      const by = {
        ArrowRight: 1,
        ArrowDown: 1,
        ArrowLeft: -1,
        ArrowUp: -1,
        PageUp: -16,
        PageDown: 16,
      }[event.key];
      const to =
        event.key === "Home" ? 0 : event.key === "End" ? -1 : by && (this.chosen ?? -1) + by;
      if (event.key === "Escape") {
        this.choose(null);
        return;
      }
      if (to === undefined) return;
      event.preventDefault();
      this.choose(to);
    });
    this.svg.addEventListener("pointermove", (event) => {
      const partition = event.target.dataset?.partition;
      if (partition !== undefined) this.choose(Number(partition));
    });
    this.svg.addEventListener("pointerleave", () => this.choose(this.found?.partition ?? null));
  }

  /** Draws what has changed. */
  draw() {
    const { ring } = this.view;
    const states = this.view.order.map((name) => this.view.stateOf(name));
    show(this.svg, [ring, states], () => this.parts(ring));
    this.svg.setAttribute("aria-valuemax", ring.partitions.length - 1);
    this.paint();
  }

  parts(ring) {
    const many = ring.partitions.length;
    const step = Math.ceil(many / DRAWN_MAX);
    const sector = (partition, outer, inner) =>
      arc(partition / many, Math.min(1, (partition + step) / many), outer, inner);
    const rows = ROWS.slice(0, Math.min(ring.n, ring.partitions[0].replicas.length));
    this.inner = OUTER - rows.reduce((sum, width) => sum + width + GAP, -GAP);
    const drawn = ring.partitions.filter(({ partition }) => partition % step === 0);
    const arcs = drawn.flatMap(({ partition, replicas }) => {
      let outer = OUTER;
      return rows.map((width, row) => {
        const node = replicas[row];
        const path = el("path", {
          d: sector(partition, outer, outer - width),
          class: `arc r${row} ${this.view.colour(node)} ${this.view.stateOf(node)}`,
        });
        Object.assign(path.dataset, { partition, node });
        outer -= width + GAP;
        return path;
      });
    });
    const moves = new Map(
      (ring.moving ?? []).map((move) => [move.partition - (move.partition % step), move]),
    );
    const moving = [...moves].map(([partition, { to, from }]) =>
      el("path", {
        d: sector(partition, BAND[1], BAND[0]),
        class: `moving ${this.view.colour(to[0] ?? from[0])}`,
      }),
    );
    this.svg.classList.toggle("seams", many <= SEAMS_MAX);
    if (1 < step)
      say($("ring-help"), `One of every ${step} partitions is drawn; the arrow keys reach all.`);
    return [
      ...arcs,
      el("g", { class: "movers" }, ...moving),
      el("g", { class: "marks" }),
      el("g", { class: "words" }),
    ];
  }

  /** Lets one node's arcs stand out, or all. */
  focusOn(node) {
    this.focus = node;
    this.paint();
  }

  /** A partition, or none. */
  choose(partition) {
    const many = this.view.ring?.partitions.length;
    if (!many) return;
    this.chosen = partition === null ? null : (partition + many) % many;
    this.paint();
  }

  /** Shows where a token lies; nowhere without one. */
  mark(found) {
    this.found = found;
    this.choose(found?.partition ?? null);
  }

  paint() {
    const { ring } = this.view;
    const held = this.found?.partition;
    for (const path of this.svg.querySelectorAll(".arc")) {
      const other = this.focus
        ? path.dataset.node !== this.focus
        : held !== undefined && Number(path.dataset.partition) !== held;
      path.classList.toggle("off", other);
    }
    const many = ring.partitions.length;
    const marks = this.chosen === null ? [] : this.wedge(ring, many);
    if (this.found) {
      const turn = Number(BigInt(this.found.token) >> 11n) / 2 ** 53;
      const [x1, y1] = at(OUTER + 3, turn).split(" ");
      const [x2, y2] = at(OUTER + 14, turn).split(" ");
      marks.push(
        el("line", { x1, y1, x2, y2, class: "token" }),
        el("circle", { cx: x2, cy: y2, r: 6, class: "token" }),
      );
    }
    this.svg.querySelector(".marks").replaceChildren(...marks);
    this.svg.querySelector(".words").replaceChildren(...this.words(ring, many));
  }

  /** The chosen partition, wide enough to be seen. */
  wedge(ring, many) {
    const half = Math.max(1 / many, WEDGE_MIN) / 2;
    const middle = (this.chosen + 0.5) / many;
    const [from, to] = [middle - half, middle + half];
    let outer = OUTER + 3;
    const { replicas } = ring.partitions[this.chosen];
    const rows = ROWS.slice(0, Math.min(ring.n, replicas.length)).map((width, row) => {
      const d = arc(from, to, outer, outer - width - GAP);
      outer -= width + GAP;
      const own = this.view.colour(replicas[row]);
      return el("path", { d, class: `slice ${own} ${this.view.stateOf(replicas[row])}` });
    });
    const frame = arc(from, to, OUTER + 3, outer);
    const ground = el("path", { d: frame, class: "ground" });
    return [ground, ...rows, el("path", { d: frame, class: "chosen" })];
  }

  words(ring, many) {
    if (this.chosen === null) {
      const { moving } = ring;
      this.svg.setAttribute("aria-valuetext", "none chosen");
      this.svg.removeAttribute("aria-valuenow");
      return [
        el("text", { class: "big", y: 2 }, String(many)),
        el("text", { y: 22 }, "partitions"),
        el(
          "text",
          { y: 42, class: moving?.length ? "warn" : "muted" },
          moving?.length ? `${moving.length} moving` : `ring ${ring.epoch} · ${ring.state}`,
        ),
      ];
    }
    const replicas = ring.partitions[this.chosen].replicas.slice(0, ring.n);
    const move = ring.moving?.find(({ partition }) => partition === this.chosen);
    const moves = move ? `, moving to ${move.to.join(" and ")}` : "";
    this.svg.setAttribute("aria-valuenow", this.chosen);
    this.svg.setAttribute(
      "aria-valuetext",
      `partition ${this.chosen} of ${many}: ${replicas.join(", ")}${moves}`,
    );
    const top = -14 - 9 * (replicas.length - 1);
    return [
      el("text", { class: "muted", y: top - 4 }, "partition"),
      el("text", { class: "big", y: top + 28 }, String(this.chosen)),
      ...replicas
        .slice(0, 5)
        .map((node, row) =>
          el(
            "text",
            { y: top + 52 + 18 * row, class: this.view.colour(node) },
            el("tspan", { class: "chip" }, "■ "),
            `${node}${this.view.stateOf(node) === "up" ? "" : ` ${this.view.stateOf(node)}`}`,
          ),
        ),
      move
        ? el(
            "text",
            { class: "warn", y: top + 54 + 18 * Math.min(5, replicas.length) },
            `→ ${move.to.join(", ") || "nobody"}`,
          )
        : null,
    ].filter(Boolean);
  }
}
