// A reliability diagram: how often a confidence comes true. On the diagonal it always does.
import { h } from "./dom.js";
import { t } from "./i18n.js";
import { svg } from "./svg.js";
import { percent } from "./train_words.js";

const SIZE = 220;
const EDGE = 30;
const x = (share) => EDGE + ((share - 0.5) / 0.5) * (SIZE - EDGE - 10);
const y = (share) => SIZE - EDGE - share * (SIZE - EDGE - 10);

/** `bins` are {low, high, n, confidence, accuracy}: of the side that the model prefers. */
export function reliability(bins) {
  const said = bins.map((bin) => t("train.reliability.bin", { claimed: percent(bin.confidence, 0), came: percent(bin.accuracy, 0) }));
  const area = h("div", { role: "img", "aria-label": `${t("train.reliability")}: ${said.join("; ")}` });
  area.append(svg("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, "aria-hidden": "true" }, frame(), marks(bins)));
  return h("figure", { class: "reliability" }, area, h("figcaption", { class: "sub" }, t("train.reliability")));
}

function frame() {
  const across = [0, 0.25, 0.5, 0.75, 1].map((share) => [
    svg("line", { x1: EDGE, x2: SIZE - 10, y1: y(share), y2: y(share) }),
    share * 2 === Math.round(share * 2) && svg("text", { x: EDGE - 6, y: y(share) + 4, "text-anchor": "end" }, String(100 * share))]);
  const below = [0.5, 0.75, 1].map((share) => svg("text", { x: x(share), y: SIZE - 12, "text-anchor": "middle" }, String(100 * share)));
  return svg("g", { class: "grid" }, across.flat(), below, svg("line", { class: "reference", x1: x(0.5), y1: y(0.5), x2: x(1), y2: y(1) }));
}

/** A dot for each bin, as large as its picks are many, and how far it is from the diagonal. */
function marks(bins) {
  const most = Math.max(...bins.map((bin) => bin.n));
  return svg("g", { class: "bins" }, bins.map((bin) => [
    svg("line", { x1: x(bin.confidence), x2: x(bin.confidence), y1: y(bin.confidence), y2: y(bin.accuracy) }),
    svg("circle", { cx: x(bin.confidence), cy: y(bin.accuracy), r: (2.5 + 5 * Math.sqrt(bin.n / most)).toFixed(1) })]).flat());
}
