// The queue and all runs: what each is doing or gave, and which of them are in the charts.
import { h } from "./dom.js";
import { t } from "./i18n.js";
import { LIVE, ago, kindName, percent, span, state, why } from "./train_words.js";

const OPEN = [...LIVE, "paused"];
const QUICK = ["pause", "resume", "cancel"];

/** `view` is {focus, chosen, tone(id)}: the run on the screen and those in the charts. */
export function list(feed, view) {
  const tops = feed.tops();
  const open = tops.filter((run) => OPEN.includes(run.status)).sort((one, other) => place(feed, one) - place(feed, other));
  const over = tops.filter((run) => !OPEN.includes(run.status));
  return [
    h("div", { class: "part", dataset: { key: "queue" } },
      h("h2", {}, t("train.queue"), " ", open.length > 0 && h("span", { class: "count" }, open.length)),
      open.length ? h("ol", { class: "runs" }, open.map((run) => family(feed, view, run))) : h("p", { class: "sub empty" }, t("train.queue.none"))),
    h("div", { class: "part", dataset: { key: "over" } },
      h("h2", {}, t("train.runs.over")),
      over.length ? h("ol", { class: "runs" }, over.map((run) => family(feed, view, run))) : h("p", { class: "sub empty" }, t("train.runs.none"))),
    feed.more && h("button", { type: "button", class: "btn small older", dataset: { key: "older", do: "older" } }, t("train.runs.older")),
    h("p", { class: "sub foot", dataset: { key: "foot" } }, over.length > 0 && t("train.runs.compare_hint")),
  ];
}

/** The run at work, those that wait in their order, and paused ones, which hold no place. */
function place(feed, run) {
  if (run.status === "running") return -1;
  const at = feed.queue.indexOf(run.run_id);
  return at < 0 ? feed.runs.length : at;
}

function family(feed, view, run) {
  const parts = run.kind === "round" ? feed.parts(run.run_id) : [];
  return h("li", { dataset: { key: run.run_id } }, row(feed, view, run, parts.length > 0),
    parts.length > 0 && h("ol", { class: "runs parts" }, parts.map((part) => h("li", { dataset: { key: part.run_id } }, row(feed, view, part, false)))));
}

function row(feed, view, run, whole) {
  const here = view.focus === run.run_id;
  const { words, tone } = state(run);
  return h("div", { class: here ? "run here" : "run" },
    whole ? h("span", { class: "swatch" }) : swatch(view, run),
    h("a", { href: `#${run.run_id}`, "aria-current": here ? "page" : null },
      h("b", {}, run.run_id), " ", h("span", { class: "kind" }, kindName(run.kind))),
    h("span", { class: `chip ${tone}` }, words),
    h("p", { class: "sub what" }, what(feed, run), quick(run)),
    run.status === "running" && bar(feed, run));
}

function swatch(view, run) {
  const chosen = view.chosen.includes(run.run_id);
  return h("label", { class: "swatch", title: t("train.compare", { run: run.run_id }) },
    h("input", { type: "checkbox", checked: chosen, "aria-label": t("train.compare", { run: run.run_id }), dataset: { do: "compare", run: run.run_id } }),
    h("i", { style: chosen ? `--c: ${view.tone(run.run_id)}` : null }));
}

function quick(run) {
  if (run.parent_run_id || !OPEN.includes(run.status)) return "";
  const open = QUICK.filter((each) => run.can?.includes(each));
  return h("span", { class: "quick" }, open.map((each) =>
    h("button", { type: "button", class: "link", "aria-label": t(`train.do.${each}_run`, { run: run.run_id }), dataset: { do: each, run: run.run_id } }, t(`train.do.${each}`))));
}

/** One line: how far it is, or what came of it. */
function what(feed, run) {
  if (run.status === "running") return h("span", {}, shortly(feed, run));
  if (run.status === "queued") {
    const at = feed.queue.indexOf(run.run_id);
    return h("span", {}, at > 0 ? t("train.place", { n: at + 1 }) : t("train.place.next"));
  }
  const came = run.status === "failed" ? why(run.reason ?? "") : result(run);
  return [came && h("span", { class: "came" }, came), h("span", {}, ago(run.changed))];
}

function result({ metrics = {} }) {
  if (typeof metrics.accuracy === "number") return t("train.held_out", { accuracy: percent(metrics.accuracy) });
  return typeof metrics.eval_loss === "number" ? t("train.held_out_loss", { loss: metrics.eval_loss.toFixed(3) }) : "";
}

/** As far(), for a narrow column. */
function shortly(feed, run) {
  const { step, steps, left } = progress(feed, run);
  if (!steps) return t("train.starting");
  if (step >= steps) return t("train.finishing");
  return left === null ? `${step} / ${steps}` : `${step} / ${steps} · ${span(left)}`;
}

export function far(feed, run) {
  const { step, steps, left } = progress(feed, run);
  if (!steps) return t("train.starting");
  if (step >= steps) return t("train.finishing");
  const told = t("train.step", { step, steps });
  return left === null ? told : `${told} · ${t("research.run.left", { span: span(left) })}`;
}

/** The part at work of a round, or the one that was before what follows now; else the run itself. */
export function progress(feed, run) {
  const parts = feed.parts(run.run_id);
  const leaf = run.kind === "round" ? (parts.find((part) => part.status === "running") ?? parts.at(-1)) : run;
  const last = leaf && feed.lines(leaf.run_id).findLast((line) => line.max_steps);
  const left = feed.detail(run.run_id)?.time_left_s ?? run.time_left_s;
  return { leaf, step: last?.step ?? 0, steps: last?.max_steps ?? 0, left: typeof left === "number" ? left : null };
}

export function bar(feed, run) {
  const { step, steps } = progress(feed, run);
  const share = steps ? step / steps : 0;
  return h("div", { class: "bar", role: "progressbar", "aria-label": t("train.progress_of", { run: run.run_id }), "aria-valuenow": Math.round(100 * share), "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuetext": percent(share, 0) },
    h("i", { style: `width: ${(100 * share).toFixed(1)}%` }));
}
