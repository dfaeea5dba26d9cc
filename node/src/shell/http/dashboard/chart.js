// Lines over the last few minutes, with the newest values in words, or those one points at.

import { el, say } from "/dashboard/element.js";
import { SPAN } from "/dashboard/load.js";

const HEIGHT = 132;
const LEFT = 52;
const TOP = 8;
const BOTTOM = HEIGHT - 18;

function nice(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].map((step) => step * power).find((bound) => most <= bound * 1.0001);
}

export class Chart {
  /** `lines` are [name, class, of what]; the axis is at least `least` long. */
  constructor(figure, lines, unit, least) {
    Object.assign(this, { figure, lines, unit, least, hover: null });
    this.svg = el("svg", { role: "img", height: HEIGHT });
    this.figures = lines.map(([name, own]) => el("dd", { class: own }));
    this.legend = el(
      "dl",
      { class: "legend" },
      ...lines.map(([name, own], at) =>
        el("div", { class: own }, el("dt", {}, el("i", { class: "chip" }), name), this.figures[at]),
      ),
    );
    figure.append(this.legend, this.svg);
    new ResizeObserver(() => this.paint()).observe(figure);
    this.svg.addEventListener("pointermove", (event) => {
      this.hover = event.clientX - this.svg.getBoundingClientRect().left;
      this.paint();
    });
    this.svg.addEventListener("pointerleave", () => {
      this.hover = null;
      this.paint();
    });
  }

  draw(series, now) {
    Object.assign(this, { series, now });
    this.paint();
  }

  paint() {
    const width = this.figure.clientWidth;
    if (!this.series || !width) return;
    const right = width - 4;
    const all = this.lines.map(([, , of]) => this.series[of]);
    const known = all
      .flat()
      .map(([, value]) => value)
      .filter((value) => value !== null);
    const most = nice(Math.max(...known, this.least));
    const x = (when) => right - ((this.now - when) / SPAN) * (right - LEFT);
    const y = (value) => BOTTOM - (value / most) * (BOTTOM - TOP);
    const parts = [0, 0.5, 1].flatMap((share) => [
      el("line", { class: "grid", x1: LEFT, x2: right, y1: y(share * most), y2: y(share * most) }),
      el(
        "text",
        { x: LEFT - 8, y: y(share * most) + 4, "text-anchor": "end" },
        share ? this.unit(share * most) : "0",
      ),
    ]);
    for (const minutes of [4, 2, 0]) {
      const where = x(this.now - minutes * 60);
      parts.push(
        el(
          "text",
          { x: where, y: HEIGHT - 3, "text-anchor": minutes ? "middle" : "end" },
          minutes ? `−${minutes} min` : "now",
        ),
      );
    }
    const when =
      this.hover === null ? null : this.now - ((right - this.hover) / (right - LEFT)) * SPAN;
    this.lines.forEach(([, own], at) => parts.push(...line(all[at], own, x, y)));
    if (when !== null && LEFT <= this.hover) {
      parts.push(
        el("line", { class: "cursor", x1: this.hover, x2: this.hover, y1: TOP, y2: BOTTOM }),
      );
    }
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.svg.replaceChildren(...parts);
    this.tell(all, when);
  }

  tell(all, when) {
    const said = this.lines.map(([name], at) => {
      const values = all[at];
      const nearest =
        when === null
          ? values.at(-1)
          : values.reduce(
              (best, value) =>
                best && Math.abs(best[0] - when) <= Math.abs(value[0] - when) ? best : value,
              null,
            );
      const value = nearest?.[1];
      const text = value === null || value === undefined ? "–" : this.unit(value);
      say(this.figures[at], text);
      return `${name} ${text}`;
    });
    this.svg.setAttribute("aria-label", said.join(", "));
  }
}

/** A line, broken where nothing is known, and the ground below it. */
function line(values, own, x, y) {
  const runs = [];
  let run = null;
  for (const [when, value] of values) {
    if (value === null) {
      run = null;
      continue;
    }
    if (!run) runs.push((run = []));
    run.push(`${x(when).toFixed(1)} ${y(value).toFixed(1)}`);
  }
  const lines = runs.filter((run) => 1 < run.length);
  const ground = lines.map(
    (run) =>
      `M${run[0].split(" ")[0]} ${BOTTOM}L${run.join("L")}L${run.at(-1).split(" ")[0]} ${BOTTOM}Z`,
  );
  return [
    el("path", { d: ground.join(""), class: `ground ${own}` }),
    el("path", { d: lines.map((run) => `M${run.join("L")}`).join(""), class: `line ${own}` }),
  ];
}
