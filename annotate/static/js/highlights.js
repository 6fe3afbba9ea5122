// Paints words without touching their elements (CSS Custom Highlight API), or with <mark> where a
// browser lacks it.

const paints = typeof CSS !== "undefined" && "highlights" in CSS;

/** Marks [{node, start, end}], in reading order, under one of the names of desk.css. */
export function mark(name, found) {
  const spans = joined(found);
  if (paints) CSS.highlights.set(`only-${name}`, new Highlight(...spans.map(range)));
  else for (const span of spans.reverse()) range(span).surroundContents(Object.assign(document.createElement("mark"), { className: `only-${name}` }));
}

export function unmark() {
  if (paints) return ["only-left", "only-right"].forEach((name) => CSS.highlights.delete(name));
  for (const element of document.querySelectorAll("mark.only-left, mark.only-right")) {
    const parent = element.parentNode;
    element.replaceWith(...element.childNodes);
    parent.normalize();
  }
}

/** Neighbours of one text node as one span, so that the space between them is marked too. */
function joined(found) {
  const spans = [];
  for (const { node, start, end } of found) {
    const last = spans.at(-1);
    if (last?.node === node && !/[^\s]/.test(node.data.slice(last.end, start))) last.end = end;
    else spans.push({ node, start, end });
  }
  return spans;
}

function range({ node, start, end }) {
  const made = document.createRange();
  made.setStart(node, start);
  made.setEnd(node, end);
  return made;
}
