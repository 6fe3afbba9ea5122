// SVG elements, as dom.js makes those of HTML.

const NS = "http://www.w3.org/2000/svg";

/** An element with attributes; children are elements or texts, null and false are left out. */
export function svg(tag, attributes, ...children) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.flat().filter((child) => child !== null && child !== false));
  return element;
}
