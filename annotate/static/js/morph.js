// Brings what is on the screen up to date without replacing it: focus, scrolling, an open <details>
// and the text that somebody is selecting stay. Listeners belong to an ancestor, by data-do.
import { h } from "./dom.js";

/** The children of `node` become these; elements with the same data-key stay themselves. */
export function morph(node, ...children) {
  patchChildren(node, h("div", {}, ...children));
  return node;
}

function patchChildren(node, wanted) {
  const keyed = new Map([...node.children].filter((child) => child.dataset.key).map((child) => [child.dataset.key, child]));
  let place = node.firstChild;
  for (const next of [...wanted.childNodes]) {
    const old = next.dataset?.key ? keyed.get(next.dataset.key) : place?.dataset?.key ? null : place;
    if (old && alike(old, next)) {
      if (old !== place) node.insertBefore(old, place);
      patch(old, next);
      place = old.nextSibling;
    } else node.insertBefore(next, place);
  }
  while (place) {
    const gone = place;
    place = place.nextSibling;
    gone.remove();
  }
}

const alike = (one, other) => one.nodeName === other.nodeName;

function patch(old, next) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== next.data) old.data = next.data;
    return;
  }
  for (const { name, value } of [...next.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) if (!next.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  if (old.nodeName === "INPUT") old.checked = next.hasAttribute("checked");
  patchChildren(old, next);
}
