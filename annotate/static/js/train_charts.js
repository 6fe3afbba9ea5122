// The charts of the chosen runs, over each other: which there are, how they are drawn, the legend.
import { h, replace } from "./dom.js";
import { t } from "./i18n.js";
import { Plot } from "./plot.js";
import * as prefs from "./prefs.js";
import { kindName } from "./train_words.js";

const ALL = ["rm", "dpo", "kto", "sft"];
const PAIRS = ["rm", "dpo"];
// `lines` are solid, `dashed` are dashed, `dots` are measured on held-out picks; `exact`: without
// noise between batches, so nothing is smoothed.
const CHARTS = [
  { name: "loss", lines: "loss", dots: "eval_loss", kinds: ALL },
  { name: "accuracy", lines: "accuracy", dots: "eval_accuracy", kinds: PAIRS, floor: 0, ceiling: 1, reference: 0.5 },
  { name: "margin", lines: "margin", dots: "eval_margin", kinds: [...PAIRS, "kto"], reference: 0 },
  { name: "rewards", lines: "reward_chosen", dashed: "reward_rejected", kinds: [...PAIRS, "kto"], reference: 0 },
  { name: "logps", lines: "logps_chosen", dashed: "logps_rejected", kinds: ["dpo", "kto"] },
  { name: "token_accuracy", lines: "token_accuracy", dots: "eval_token_accuracy", kinds: ["sft"], floor: 0, ceiling: 1 },
  { name: "kl", lines: "kl", dots: "eval_kl", kinds: ["kto"] },
  { name: "entropy", lines: "entropy", dots: "eval_entropy", kinds: ["kto", "sft"] },
  { name: "grad_norm", lines: "grad_norm", kinds: ALL, floor: 0 },
  { name: "learning_rate", lines: "learning_rate", kinds: ALL, floor: 0, exact: true },
  { name: "speed", lines: "tokens_per_second", kinds: ALL, floor: 0 },
  { name: "memory", lines: "memory_mb", kinds: ALL, floor: 0, scale: 1 / 1024, unit: " GB", exact: true },
];
const AXES = {
  step: (line) => line.step,
  epoch: (line) => line.epoch,
  minutes: (line) => (typeof line.seconds === "number" ? line.seconds / 60 : undefined),
};

export class Charts {
  #plots = new Map(CHARTS.map((chart) => [chart.name, null]));
  #shown = null;

  constructor() {
    this.legend = h("ul", { class: "legend" });
    this.grid = h("div", { class: "plots" });
    const strokes = h("p", { class: "strokes" }, ["dots", "dashed"].map((kind) => h("span", {}, h("i", { class: kind }), t(`train.chart.${kind}`))));
    this.element = h("div", { class: "charts-tab" }, h("div", { class: "tools" }, this.legend, strokes, this.#controls()), this.grid);
    new ResizeObserver(() => this.#draw()).observe(this.grid);
  }

  /** `runs` are {run_id, kind, live, lines, tone}, none of them a round. */
  show(runs) {
    this.runs = runs;
    replace(this.legend, runs.map((run) => h("li", {},
      h("i", { style: `--c: ${run.tone}` }), h("span", { class: "mono" }, run.run_id), " ", h("span", { class: "kind" }, kindName(run.kind)))));
    const wanted = CHARTS.filter((chart) => runs.some((run) => (run.live && chart.kinds.includes(run.kind)) || run.lines.some((line) => chart.lines in line)));
    const names = wanted.map((chart) => chart.name).join();
    if (names !== this.#shown) {
      this.#shown = names;
      replace(this.grid, wanted.length ? wanted.map((chart) => this.#plot(chart).element) : h("p", { class: "sub empty" }, t("train.chart.never")));
    }
    this.#draw();
  }

  #plot(chart) {
    if (!this.#plots.get(chart.name)) {
      const plot = new Plot({ ...chart, title: t(`train.chart.${chart.name}`), onPoint: (x) => this.#point(x) });
      this.#plots.set(chart.name, plot);
    }
    return this.#plots.get(chart.name);
  }

  #draw() {
    if (!this.runs || !this.grid.isConnected) return;
    const axis = prefs.get("axis");
    const xs = this.runs.flatMap((run) => run.lines.map(AXES[axis])).filter(Number.isFinite);
    const ends = axis === "step" ? this.runs.map((run) => run.lines.at(-1)?.max_steps ?? 0) : [];
    const x = { least: 0, most: Math.max(...xs, ...ends, 0) || 1, word: t(`train.axis.${axis}.at`), whole: axis === "step" };
    for (const chart of CHARTS) {
      const plot = this.#plots.get(chart.name);
      if (plot?.element.isConnected) plot.draw(this.runs.flatMap((run) => series(chart, run, AXES[axis])), { smoothing: chart.exact ? 0 : prefs.get("smoothing"), x });
    }
  }

  #point(x) {
    for (const plot of this.#plots.values()) if (plot?.element.isConnected) plot.point(x);
  }

  #controls() {
    const said = h("output", {}, prefs.get("smoothing").toFixed(2));
    const slider = h("input", { type: "range", id: "smoothing", min: "0", max: "0.95", step: "0.05", value: String(prefs.get("smoothing")) });
    slider.addEventListener("input", () => {
      prefs.set("smoothing", Number(slider.value));
      replace(said, Number(slider.value).toFixed(2));
      this.#draw();
    });
    return h("div", { class: "controls" },
      h("div", { class: "smoothing" }, h("label", { for: "smoothing" }, t("train.smoothing")), slider, said),
      h("fieldset", { class: "axis" }, h("legend", { class: "unseen" }, t("train.axis")),
        h("div", { class: "segments" }, Object.keys(AXES).map((axis) => h("label", {},
          h("input", { type: "radio", name: "axis", value: axis, checked: prefs.get("axis") === axis, onchange: () => (prefs.set("axis", axis), this.#draw()) }),
          h("span", {}, t(`train.axis.${axis}`)))))));
  }
}

function series(chart, run, axis) {
  const scale = chart.scale ?? 1;
  const points = (key) => run.lines.filter((line) => Number.isFinite(line[key]) && Number.isFinite(axis(line))).map((line) => [axis(line), line[key] * scale]);
  const made = [{ kind: "line", label: run.run_id, points: points(chart.lines) }];
  if (chart.dashed) made.push({ kind: "dashed", label: t("train.chart.rejected_of", { run: run.run_id }), points: points(chart.dashed) });
  if (chart.dots) made.push({ kind: "dots", label: t("train.chart.held_out_of", { run: run.run_id }), points: points(chart.dots) });
  return made.filter((one) => one.points.length).map((one) => ({ ...one, id: run.run_id, tone: run.tone }));
}
