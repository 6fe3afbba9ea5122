// One chart as SVG: lines and dots of several runs, a crosshair with the values under it.
import { figure, gentle, nearest, range, smooth, thin, ticks } from "./curves.js";
import { h, replace } from "./dom.js";
import { language, t } from "./i18n.js";
import { svg as s } from "./svg.js";

const HEIGHT = 172;
const [LEFT, RIGHT, TOP, BOTTOM] = [46, 10, 8, 22];
const FEW = 4; // series whose last value has room in the caption

/**
 * A series is {id, label, tone, points, kind}: `tone` a CSS colour, `kind` line, dashed or dots.
 * `onPoint(x)` hears where the reader points, null when they leave: all charts of a set follow.
 */
export class Plot {
  #drawn = []; // series with the points that are on the screen
  #frame = { x: [0, 1], y: [0, 1], width: 300 };
  #at = null;

  constructor({ title, floor, ceiling, reference, unit = "", onPoint }) {
    Object.assign(this, { title, unit, reference, onPoint, bounds: { floor, ceiling } });
    this.now = h("span", { class: "now" });
    this.svg = s("svg", { "aria-hidden": "true" });
    this.tip = h("div", { class: "tip", hidden: true });
    this.area = h("div", { class: "area", tabindex: "0", role: "img" });
    this.area.append(this.svg, this.tip);
    this.element = h("figure", { class: "plot" },
      h("figcaption", {}, h("b", {}, title), this.now), this.area);
    this.area.addEventListener("pointermove", (event) => this.#pointed(event));
    this.area.addEventListener("pointerleave", () => onPoint(null));
    this.area.addEventListener("keydown", (event) => this.#keyed(event));
    this.area.addEventListener("blur", () => onPoint(null));
  }

  /** `x` is {least, most, word, whole}: the same for all charts of a set. */
  draw(series, { smoothing, x }) {
    this.x = x;
    this.#drawn = series.map((one) => {
      const weight = one.kind === "dots" ? 0 : gentle(smoothing, one.points.length);
      return { ...one, weight, shown: smooth(one.points, weight) };
    });
    const all = series.flatMap((one) => one.points);
    const known = all.length > 0;
    if (this.reference !== undefined && known) all.push([0, this.reference]);
    const width = this.area.clientWidth || 300;
    this.#frame = { x: [x.least, x.most], y: range(all, this.bounds), width };
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.cursor = s("g", { class: "cursor" });
    if (known) this.svg.replaceChildren(this.#grid(), ...this.#drawn.flatMap((one) => this.#lines(one)), this.cursor);
    else this.svg.replaceChildren(...nothing(width)); // ticks without values would be made up
    this.#caption();
    this.point(this.#at);
  }

  /** The crosshair at the data's x; the values as well where the reader is. */
  point(x) {
    this.#at = x;
    if (!this.cursor) return;
    const found = x === null ? [] : this.#under(x);
    if (!found.length) {
      this.cursor.replaceChildren();
      this.tip.hidden = true;
      return;
    }
    const at = this.#x(found[0].x);
    this.cursor.replaceChildren(s("line", { x1: at, x2: at, y1: TOP, y2: HEIGHT - BOTTOM }),
      ...found.map((one) => s("circle", { cx: this.#x(one.x), cy: this.#y(one.y), r: 3.5, style: `fill: ${one.tone}` })));
    const here = this.area.matches(":hover, :focus-visible");
    this.tip.hidden = !here;
    if (here) this.#tell(found, at);
  }

  #tell(found, at) {
    replace(this.tip, h("p", {}, `${this.x.word} ${figure(found[0].x, language())}`),
      h("ul", {}, found.map((one) => h("li", {},
        h("i", { class: one.kind, style: `--c: ${one.tone}` }), h("span", {}, one.label), h("b", {}, this.#value(one.y))))));
    const room = this.#frame.width - this.tip.offsetWidth;
    this.tip.style.left = `${Math.max(0, Math.min(room, at < room - 14 ? at + 14 : at - 14 - this.tip.offsetWidth))}px`;
  }

  /** Of each series the point nearest to x, but none that is far from it. */
  #under(x) {
    const near = 0.06 * (this.#frame.x[1] - this.#frame.x[0]) || 1;
    return this.#drawn.flatMap((one) => {
      const place = nearest(one.shown, x);
      if (place < 0 || (one.kind === "dots" && Math.abs(one.shown[place][0] - x) > near)) return [];
      if (x - one.shown.at(-1)[0] > near) return []; // a shorter run has ended
      return [{ ...one, x: one.shown[place][0], y: one.shown[place][1] }];
    });
  }

  #grid() {
    const { x, y, width } = this.#frame;
    const across = ticks(...y, 4).map((value) => [
      s("line", { x1: LEFT, x2: width - RIGHT, y1: this.#y(value), y2: this.#y(value) }),
      s("text", { x: LEFT - 8, y: this.#y(value) + 4, "text-anchor": "end" }, figure(value, language()))]);
    const below = ticks(...x, Math.max(2, Math.min(5, Math.floor(width / 60))))
      .filter((value) => !this.x.whole || Number.isInteger(value))
      .map((value) => s("text", { x: this.#x(value), y: HEIGHT - 5, "text-anchor": "middle" }, figure(value, language())));
    const made = s("g", { class: "grid" }, ...across.flat(), ...below);
    if (this.reference !== undefined && this.reference >= y[0] && this.reference <= y[1])
      made.append(s("line", { class: "reference", x1: LEFT, x2: width - RIGHT, y1: this.#y(this.reference), y2: this.#y(this.reference) }));
    return made;
  }

  #lines(one) {
    const path = (points) => thin(points).map(([x, y], n) => `${n ? "L" : "M"}${this.#x(x).toFixed(1)} ${this.#y(y).toFixed(1)}`).join("");
    const style = `--c: ${one.tone}`;
    if (one.kind === "dots")
      return [s("path", { class: "held-out", d: path(one.points), style }),
        ...one.points.map(([x, y]) => s("circle", { class: "dot", cx: this.#x(x), cy: this.#y(y), r: 3, style }))];
    const raw = one.weight ? [s("path", { class: "raw", d: path(one.points), style })] : [];
    return [...raw, s("path", { class: one.kind, d: path(one.shown), style })];
  }

  /** The last value of each line, when they are few: what one looks for first. */
  #caption() {
    const last = this.#drawn.filter((one) => one.shown.length && one.kind === "line");
    const few = last.length <= FEW ? last : [];
    replace(this.now, few.map((one) => h("span", { class: one.kind, style: `--c: ${one.tone}` }, this.#value(one.shown.at(-1)[1]))));
    const said = this.#drawn.filter((one) => one.shown.length).map((one) => `${one.label} ${this.#value(one.shown.at(-1)[1])}`);
    this.area.setAttribute("aria-label", `${this.title}: ${said.join("; ") || t("train.chart.none")}`);
  }

  #value(value) {
    return figure(value, language(), 3) + this.unit;
  }

  #pointed(event) {
    const box = this.svg.getBoundingClientRect();
    const share = (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
    const [least, most] = this.#frame.x;
    this.onPoint(Math.min(most, Math.max(least, least + share * (most - least))));
  }

  /** Arrows go from point to point of the longest line. */
  #keyed(event) {
    const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const longest = this.#drawn.reduce((most, one) => (one.shown.length > (most?.shown.length ?? 0) ? one : most), null);
    if (event.key === "Escape") this.onPoint(null);
    if (!way || !longest) return;
    event.preventDefault();
    const place = this.#at === null ? longest.shown.length - 1 : nearest(longest.shown, this.#at) + way;
    this.tip.setAttribute("aria-live", "polite");
    this.onPoint(longest.shown[Math.max(0, Math.min(longest.shown.length - 1, place))][0]);
  }

  #x(value) {
    const { x: [least, most], width } = this.#frame;
    return LEFT + ((value - least) / (most - least || 1)) * (width - LEFT - RIGHT);
  }

  #y(value) {
    const [low, high] = this.#frame.y;
    return HEIGHT - BOTTOM - ((value - low) / (high - low || 1)) * (HEIGHT - TOP - BOTTOM);
  }
}

const nothing = (width) => [
  s("g", { class: "grid" }, [TOP, HEIGHT - BOTTOM].map((y) => s("line", { x1: LEFT, x2: width - RIGHT, y1: y, y2: y }))),
  s("text", { class: "none", x: (LEFT + width - RIGHT) / 2, y: (TOP + HEIGHT - BOTTOM) / 2 + 4, "text-anchor": "middle" }, t("train.chart.none"))];
