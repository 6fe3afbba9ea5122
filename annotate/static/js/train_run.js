// One run: what it is doing, what to look at, and its tabs.
import { h, replace } from "./dom.js";
import { t } from "./i18n.js";
import { morph } from "./morph.js";
import { Charts } from "./train_charts.js";
import * as config from "./train_config.js";
import { bar, far, progress } from "./train_list.js";
import * as log from "./train_log.js";
import * as result from "./train_result.js";
import * as samples from "./train_samples.js";
import { LIVE, ago, kindName, percent, span, state, told, why } from "./train_words.js";

export const TABS = ["charts", "samples", "result", "config", "log"];
const PANELS = { samples, result, config, log };
const ACTIONS = ["pause", "resume", "repeat", "cancel"];

export class RunView {
  charts = new Charts();

  constructor(feed) {
    this.feed = feed;
    this.head = h("div", { class: "card run-head" });
    this.tabs = h("div", { class: "tabs", role: "tablist", "aria-label": t("train.tabs") });
    this.panel = h("div", { class: "card panel", role: "tabpanel", id: "panel", "aria-labelledby": "tab-charts" });
    this.element = h("div", { class: "run-view" }, this.head, this.tabs, this.panel);
    this.tabs.addEventListener("keydown", (event) => this.#arrows(event));
  }

  /** `view` is {focus, chosen, tone(id), tab}. Called after every look at the server. */
  show(view) {
    const run = this.feed.run(view.focus);
    this.tabs.hidden = this.panel.hidden = !run;
    if (!run) {
      morph(this.head, h("p", { class: "sub" }, t("train.none")));
      return;
    }
    morph(this.head, head(this.feed, run));
    morph(this.tabs, TABS.map((tab) => h("a", { id: `tab-${tab}`, role: "tab", href: `#${view.focus}/${tab}`, "aria-selected": String(tab === view.tab),
      "aria-controls": "panel", tabindex: tab === view.tab ? "0" : "-1" }, t(`train.tab.${tab}`))));
    this.panel.setAttribute("aria-labelledby", `tab-${view.tab}`);
    this.#fill(run, view);
  }

  #fill(run, view) {
    const here = `${view.focus}/${view.tab}`;
    const fresh = this.here !== here;
    this.here = here;
    if (view.tab === "charts") {
      if (fresh) replace(this.panel, this.charts.element);
      const leaves = [...new Set(view.chosen.flatMap(this.feed.leaves))];
      this.charts.show(leaves.map((id) => ({ run_id: id, kind: this.feed.run(id)?.kind, live: LIVE.includes(this.feed.run(id)?.status), lines: this.feed.lines(id), tone: view.tone(id) })));
      return;
    }
    if (fresh) replace(this.panel, h("p", { class: "sub" }, t("train.loading")));
    PANELS[view.tab].show(this.panel, this.feed, run, view, fresh);
  }

  /** Arrow keys go from tab to tab, as in every list of tabs. */
  #arrows(event) {
    const way = { ArrowRight: 1, ArrowLeft: -1, Home: -TABS.length, End: TABS.length }[event.key];
    if (!way) return;
    event.preventDefault();
    const all = [...this.tabs.children];
    const at = all.indexOf(document.activeElement) + way;
    const next = all[Math.abs(way) === 1 ? (at + all.length) % all.length : way < 0 ? 0 : all.length - 1];
    next.focus();
    location.replace(next.href);
  }
}

function head(feed, run) {
  const { words, tone } = state(run);
  const detail = feed.detail(run.run_id);
  const can = detail?.can ?? run.can ?? [];
  return [
    h("a", { class: "back", href: "#" }, t("train.back")),
    h("div", { class: "row" },
      h("h2", { class: "mono" }, run.run_id),
      h("span", { class: "kind" }, kindName(run.kind)),
      h("span", { class: `chip ${tone}` }, words),
      run.policy_id && h("a", { class: "policy", href: "/research/", title: t("train.policies") }, run.policy_id),
      h("div", { class: "end actions" }, ACTIONS.filter((each) => can.includes(each)).map((each) =>
        h("button", { type: "button", class: "btn small", dataset: { do: each, run: run.run_id, key: each } }, t(`train.do.${each}`))),
        h("button", { type: "button", class: "btn small", title: t("train.do.change.what"), dataset: { do: "change", run: run.run_id, key: "change" } }, t("train.do.change")))),
    h("div", { class: "facts" }, facts(feed, run)),
    run.status === "running" && bar(feed, run),
    run.reason && !LIVE.includes(run.status) && h("p", { class: run.status === "failed" ? "notice" : "sub reason" }, reason(run)),
    warnings(detail?.remarks ?? [], detail?.warnings ?? [], run.status === "running"),
  ];
}

/** Without the verdict that the chip says already. */
const reason = (run) => why(run.reason.replace(/^(Promoted|Rejected): /, ""));

function facts(feed, run) {
  const { leaf, step, steps } = progress(feed, run);
  const lines = leaf ? feed.lines(leaf.run_id) : [];
  const last = lines.at(-1);
  const speed = lines.findLast((line) => line.tokens_per_second)?.tokens_per_second; // measurements have none
  if (run.status === "running")
    return [
      h("span", {}, leaf && leaf !== run ? `${kindName(leaf.kind)}: ` : "", h("b", {}, far(feed, run))),
      steps > 0 && h("span", {}, percent(step / steps, 0)),
      speed && h("span", {}, t("train.speed", { n: Math.round(speed) })),
      last?.memory_mb && h("span", {}, `${(last.memory_mb / 1024).toFixed(1)} GB`),
    ];
  const seconds = run.status === "queued" ? 0 : atWork(feed, run);
  return [h("span", {}, ago(run.changed)), seconds > 0 && h("span", {}, t("train.took", { span: span(seconds) })), run.metrics?.rows_train !== undefined && h("span", {}, t("train.rows", { train: run.metrics.rows_train, held_out: run.metrics.rows_eval ?? 0 }))];
}

/** Seconds of training, without those in the queue or paused. */
function atWork(feed, run) {
  return feed.leaves(run.run_id).reduce((sum, id) => sum + (feed.lines(id).findLast((line) => line.seconds)?.seconds ?? 0), 0);
}

/** While a run goes on they have a place of one height: what is below must not move under the hand.
 * What is seen on the way comes first: what was known before the start can wait below. */
function warnings(remarks, seen, live) {
  const found = [
    ...seen.map((one) => [[one.part && kindName(one.part), one.step ? t("train.warning.at", { step: one.step }) : t("train.warning.now")].filter(Boolean).join(" · "), told("train.warning", one)]),
    ...remarks.map((one) => [t("train.warning.plan"), told("train.plan", one)]),
  ];
  if (!found.length) return live && h("p", { class: "sub no-warnings" }, t("train.warnings.none"));
  return h("ul", { class: live ? "warnings live" : "warnings", tabindex: live ? "0" : null, "aria-label": t("train.warnings") }, found.map(([when, words]) =>
    h("li", {}, h("span", { class: "chip warn" }, when), " ", words)));
}

