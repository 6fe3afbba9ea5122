// What came of a run: figures on held-out picks, how far its confidence is right, and for whom.
import { h, replace } from "./dom.js";
import { number, t } from "./i18n.js";
import { reliability } from "./reliability.js";
import { interval, percent, plain, why } from "./train_words.js";

const GROUPS = ["pool", "annotator", "strength"];
// Shown by a block of their own, or parts of what a block shows.
const TOLD = new Set(["accuracy", "accuracy_low", "accuracy_high", "eval_loss", "margin", "nll", "nll_calibrated", "ece", "ece_calibrated", "temperature",
  "length_correlation", "reliability", "reward_model", "gate", "precision_gap", "picks", ...GROUPS.map((each) => `accuracy_by_${each}`)]);

export function show(panel, feed, run, view, fresh) {
  const metrics = run.metrics ?? {};
  const sign = JSON.stringify(metrics);
  if (!fresh && panel.dataset.sign === sign) return;
  panel.dataset.sign = sign;
  if (!Object.keys(metrics).length) {
    replace(panel, h("p", { class: "sub empty" }, t("train.result.none")));
    return;
  }
  const reward = metrics.reward_model;
  replace(panel, h("div", { class: "result" },
    tiles(metrics), gap(metrics.precision_gap), gate(metrics.gate), calibration(metrics),
    reward && h("section", {}, h("h3", {}, t("train.kind.rm")), tiles(reward), calibration(reward)),
    counts(metrics)));
}

function tile(label, value, sub = "", tone = "") {
  return h("div", { class: "tile" }, h("span", { class: "label" }, label), h("b", { class: tone }, value), sub && h("span", { class: "sub" }, sub));
}

function tiles(m) {
  const is = (key) => typeof m[key] === "number";
  return h("div", { class: "tiles" },
    is("accuracy") && tile(t("train.metric.accuracy"), percent(m.accuracy), is("accuracy_low") ? t("train.metric.interval", { low: percent(m.accuracy_low), high: percent(m.accuracy_high) }) : ""),
    is("eval_loss") && tile(t("train.metric.eval_loss"), plain(m.eval_loss), is("nll") ? t("train.metric.chance", { value: "0.693" }) : ""),
    is("margin") && tile(t("train.metric.margin"), plain(m.margin)),
    is("ece_calibrated") && tile(t("train.metric.ece"), percent(m.ece_calibrated), t("train.metric.before", { value: percent(m.ece) })),
    is("nll_calibrated") && tile(t("train.metric.nll"), plain(m.nll_calibrated), t("train.metric.before", { value: plain(m.nll) })),
    is("temperature") && tile(t("train.metric.temperature"), plain(m.temperature), t(m.temperature > 1 ? "train.metric.too_sure" : "train.metric.too_modest")),
    is("length_correlation") && tile(t("train.metric.length"), plain(m.length_correlation), t("train.metric.length_what")));
}

function gap(found) {
  if (found?.missing) return h("section", {}, h("h3", {}, t("train.gap")), h("p", { class: "sub" }, t("train.gap.missing", { why: found.missing })));
  if (!found || typeof found.mean !== "number") return null;
  const wide = found.mean > found.bound;
  return h("section", {}, h("h3", {}, t("train.gap")),
    h("p", { class: "sub" }, t("train.gap.what")),
    h("div", { class: "tiles" }, tile(t("train.gap.mean"), plain(found.mean), t("train.gap.bound", { bound: plain(found.bound) }), wide ? "bad" : "good"),
      tile(t("train.gap.max"), plain(found.max), t("train.gap.tokens", { n: found.tokens }))),
    wide && h("p", { class: "notice" }, t("train.gap.wide")));
}

function gate(verdict) {
  if (!verdict?.checks?.length) return null;
  return h("section", {}, h("h3", {}, t("train.gate")), h("ul", { class: "checks" }, verdict.checks.map((check) =>
    h("li", { class: check.passed ? "passed" : "missed" }, h("span", { class: "unseen" }, t(check.passed ? "train.gate.passed" : "train.gate.missed")), why(check.sentence)))));
}

// --- calibration: who is ordered how well ---------------------------------------------------------

function calibration(m) {
  const groups = GROUPS.filter((each) => Object.keys(m[`accuracy_by_${each}`] ?? {}).length);
  if (!groups.length && !m.reliability?.length) return null;
  return h("section", {}, h("h3", {}, t("train.calibration")), h("p", { class: "sub" }, t("train.calibration.what")),
    h("div", { class: "calibration" },
      m.reliability?.length > 0 && reliability(m.reliability),
      h("div", { class: "groups" }, groups.map((each) => table(each, m[`accuracy_by_${each}`])))));
}

function table(group, rows) {
  const name = (key) => (group === "strength" ? t(`train.strength.${key}`) : key);
  return h("table", {}, h("thead", {}, h("tr", {},
    h("th", { scope: "col" }, t(`train.by.${group}`)), h("th", { scope: "col", class: "n" }, t("train.by.picks")),
    h("th", { scope: "col" }, t("train.metric.accuracy")), h("th", { scope: "col", class: "n" }, "ECE"))),
  h("tbody", {}, Object.entries(rows).map(([key, one]) => h("tr", {},
    h("td", {}, name(key)), h("td", { class: "n" }, number(one.n)),
    h("td", {}, h("span", { class: "with-bar" }, whisker(one), h("span", {}, interval(one.accuracy, one.accuracy_low, one.accuracy_high)))),
    h("td", { class: "n" }, typeof one.ece === "number" ? percent(one.ece) : "–")))));
}

/** The interval as a bar from 0 to 100 %, a mark where one half is. */
function whisker({ accuracy, accuracy_low: low, accuracy_high: high }) {
  if (typeof low !== "number") return null;
  const at = (share) => `${(100 * share).toFixed(1)}%`;
  return h("span", { class: "whisker", "aria-hidden": "true" },
    h("i", { style: `left: ${at(low)}; width: ${at(high - low)}` }), h("b", { style: `left: ${at(accuracy)}` }));
}

function counts(m) {
  const entries = [...Object.entries(m).filter(([key, value]) => !TOLD.has(key) && ["number", "string"].includes(typeof value)), ...Object.entries(m.picks ?? {}).map(([verdict, n]) => [`picks_${verdict}`, n])];
  if (!entries.length) return null;
  return h("section", {}, h("h3", {}, t("train.counts")), h("dl", { class: "pairs" }, entries.map(([key, value]) => h("div", {}, h("dt", { class: "mono" }, key), h("dd", {}, plain(value))))));
}
