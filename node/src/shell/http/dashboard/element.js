// One way to make elements, of both kinds.

/** An element with text or children; classes and attributes by name. */
export function el(name, attributes = {}, ...children) {
  const svg = ["path", "line", "circle", "text", "g"].includes(name);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== "") node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}
