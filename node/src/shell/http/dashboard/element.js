// Elements, made and changed in place, and numbers for people.

const DRAWN = ["svg", "path", "line", "circle", "text", "tspan", "g", "rect", "polygon"];

/** An element with text or children; classes and attributes by name. */
export function el(name, attributes = {}, ...children) {
  const node = DRAWN.includes(name)
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== "" && value !== false) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export const $ = (id) => document.getElementById(id);

/** Builds what is in `parent` anew only if what it shows has changed: focus and selections stay. */
export function show(parent, what, build) {
  const shown = JSON.stringify(what);
  if (parent.shown === shown) return;
  parent.shown = shown;
  const built = build();
  parent.replaceChildren(...(Array.isArray(built) ? built : [built]).filter(Boolean));
}

/** The same for a text. */
export function say(node, text) {
  if (node.textContent !== String(text)) node.textContent = text;
}

/** A command line, and a button that copies it where browsers allow that. */
export function command(text) {
  const line = el("span", { class: "command" }, el("code", {}, text));
  if (navigator.clipboard) {
    const button = el(
      "button",
      { type: "button", class: "quiet", "aria-label": `Copy ${text}` },
      "Copy",
    );
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Not allowed";
      }
      setTimeout(() => {
        button.textContent = "Copy";
      }, 1500);
    });
    line.append(button);
  }
  return line;
}

/** A bar for a share of something; without a label it only repeats what stands beside it. */
export function bar(share, label) {
  const hidden = label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" };
  return el(
    "svg",
    { class: "share", ...hidden },
    el("rect", { width: `${(100 * Math.min(1, share)).toFixed(2)}%`, height: "100%" }),
  );
}

export const count = (number) => Number(number).toLocaleString("en").replaceAll(",", "\u202f");
export const plural = (number, one) => `${count(number)} ${one}${number === 1 ? "" : "s"}`;

export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (1024 <= number && at < units.length - 1) {
    number /= 1024;
    at += 1;
  }
  return `${number < 10 && at ? number.toFixed(1) : Math.round(number)} ${units[at]}`;
}

/** Seconds that have passed. */
export function age(seconds) {
  for (const [unit, length, next, part] of [
    ["d", 86400, "h", 3600],
    ["h", 3600, "m", 60],
    ["m", 60, "s", 1],
  ]) {
    if (length <= seconds) {
      const rest = Math.floor((seconds % length) / part);
      return `${Math.floor(seconds / length)} ${unit}${rest ? ` ${rest} ${next}` : ""}`;
    }
  }
  return `${Math.floor(seconds)} s`;
}

/** Seconds that something took. */
export function latency(seconds) {
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  return `${seconds.toFixed(1)} s`;
}

const TONES = {
  up: "good",
  down: "bad",
  unreadable: "bad",
  silent: "bad",
  present: "good",
  absent: "warn",
};
const SIGNS = { up: "●", down: "✕", suspect: "◐", present: "●", silent: "✕" };
export const tone = (word) => TONES[word] ?? "warn";
/** A state, told by colour, sign and word. */
export const pill = (word) =>
  el(
    "span",
    { class: `pill ${tone(word)}` },
    el("span", { "aria-hidden": "true" }, SIGNS[word] ?? "○"),
    ` ${word}`,
  );
