// What the model answered to the same held-out prompts at several steps, side by side.
import { call, sentence } from "./api.js";
import { h, replace } from "./dom.js";
import { number, t } from "./i18n.js";
import { morph } from "./morph.js";
import { LIVE } from "./train_words.js";

const EVERY_MS = 5000;
let askedAt = 0;
let asking = 0; // the number of the question at hand; 0 when none is
let serial = 0;
let known = { run: null, status: "", samples: [] };
let picked = null; // steps that the reader chose; null: the first and the last

export async function show(panel, feed, run, view, fresh) {
  const due = LIVE.includes(run.status) ? performance.now() - askedAt > EVERY_MS : known.status !== run.status;
  if (known.run !== run.run_id) picked = null;
  if (!fresh && (asking || !due)) return;
  const mine = (asking = serial += 1); // of another run: an older question is of no use any more
  askedAt = performance.now();
  const { samples, problem } = await call("GET", `/runs/${run.run_id}/samples`).catch((error) => ({ samples: [], problem: sentence(error) }));
  if (mine !== asking) return;
  asking = 0;
  if (view.stale()) return;
  known = { run: run.run_id, kind: run.kind, status: run.status, samples };
  if (problem) replace(panel, h("p", { class: "notice", role: "alert" }, problem));
  else draw(panel);
}

function draw(panel) {
  const { samples } = known;
  if (!samples.length) {
    replace(panel, h("p", { class: "sub empty" }, t(known.kind === "rm" ? "train.samples.rm" : "train.samples.none")));
    return;
  }
  const columns = [...new Map(samples.map((one) => [column(one), one])).entries()];
  const all = columns.map(([key]) => key);
  const shown = picked?.filter((key) => all.includes(key)) ?? [...new Set([all[0], all.at(-1)])];
  if (!panel.querySelector(".samples")) replace(panel, h("div", { class: "tools" }), h("div", { class: "samples" }));
  const [tools, body] = panel.children;
  morph(tools, h("fieldset", { class: "steps" }, h("legend", {}, t("train.samples.steps")),
    columns.map(([key, one]) => h("label", { class: "pick-chip", dataset: { key } },
      h("input", { type: "checkbox", value: key, checked: shown.includes(key) }), h("span", {}, stepName(one, all.length > 1 && key === all.at(-1)))))));
  tools.onchange = () => {
    picked = [...tools.querySelectorAll("input:checked")].map((input) => input.value);
    draw(panel);
  };
  const prompts = new Map();
  for (const one of samples) {
    const key = JSON.stringify(one.prompt);
    if (!prompts.has(key)) prompts.set(key, { prompt: one.prompt, answers: new Map() });
    prompts.get(key).answers.set(column(one), one);
  }
  replace(body, [...prompts.values()].map((each, n) => card(each, n + 1, columns.filter(([key]) => shown.includes(key)))));
}

/** Steps of the parts of a round are told apart. */
const column = (one) => `${one.part ?? ""}:${one.step}`;

function stepName(one, last) {
  if (one.step === 0) return t("train.samples.start");
  return last ? t("train.samples.last", { step: one.step }) : t("train.samples.step", { step: one.step });
}

function card({ prompt, answers }, n, columns) {
  const asked = prompt.at(-1)?.content ?? "";
  return h("article", { class: "sample" },
    h("h3", { class: "asked" }, prompt.length > 1 ? h("span", { class: "sub" }, t("train.samples.turns", { n: prompt.length }), ": ") : "", h("span", { class: "others-text exact", dir: "auto" }, asked)),
    h("div", { class: "answers", style: `--columns: ${columns.length || 1}`, tabindex: "0", role: "region", "aria-label": t("train.samples.of", { n }) },
      columns.map(([key, one]) => answer(one, answers.get(key)))));
}

function answer(one, sample) {
  const text = h("div", { class: "others-text", dir: "auto" });
  if (sample) text.innerHTML = sample.html; // rendered and cleaned by the server
  return h("section", {}, h("h4", {}, stepName(one), sample && h("span", { class: "sub" }, t("train.samples.words", { n: sample.words, words: number(sample.words) }), sample.cut && ` · ${t("train.samples.cut")}`)),
    sample ? text : h("p", { class: "sub" }, "–"));
}
