// Best and worst of four: two clicks or two keys are one judgment.

import { action, dock, foot, moreButton, undoButton } from "./actions.js";
import { details } from "./details.js";
import { h, replace } from "./dom.js";
import { t } from "./i18n.js";
import { answerPath, Pane } from "./pane.js";
import { unfoldButton } from "./pair_view.js";
import { aids } from "./reading.js";

const PLACES = [0, 1, 2, 3];
const ROWS = 2; // of panes on a wide screen: each gets its share of the height of a pair's pane
const ENDS = ["best", "worst"];
const NONE = { best: null, worst: null };

export const idle = ["D"]; // that takes two

/** Built at the first show, when the language is known. */
let parts = null;
let desk = null; // whose item is on the stage
let ranking = NONE; // places on the screen, 0 to 3

export const keys = {
  ...Object.fromEntries(PLACES.map((place) => [place + 1, () => byKey(place)])),
  Backspace: clear,
  t: () => judge({ verdict: "tie" }),
  b: () => judge({ verdict: "both_bad" }),
  s: () => judge({ verdict: "skip" }),
  f: () => judge({ verdict: "flag" }),
};

export const legend = [
  ["1 – 4", "four.keys"], ["Backspace", "four.clear"], ["T", "four.same"], ["B", "four.all_bad"],
  ["S", "pick.skip"], ["F", "pick.flag"],
];

export function show(item, owner) {
  desk = owner;
  parts ??= build();
  if (parts.root.parentElement !== desk.stage) desk.stage.replaceChildren(parts.root);
  details.place(parts.detailsPlace, false);
  item.answers.forEach((answer, place) => parts.panes[place].show(answer, answerPath(item.pair_id, place), aids.exact));
  aids.attend(parts.panes, desk.settings.fold_height / ROWS);
  replace(parts.before, item.before?.verdict === "ranked" ? t("four.before", spoken(item.before)) : "");
  rank(NONE);
  if (matchMedia("(max-width: 760px)").matches) scrollTo(0, 0);
}

export function hide() {
  parts?.root.remove();
}

/** The pick on the screen was refused or could not be stored. */
export function refused() {
  rank(NONE);
}

/** What one choice makes of a ranking: the same one again takes it back. Pure. */
export function chosen(ranking, end, place) {
  if (ranking[end] === place) return { ...ranking, [end]: null };
  const other = end === "best" ? "worst" : "best";
  return { [end]: place, [other]: ranking[other] === place ? null : ranking[other] };
}

function byKey(place) {
  if (ranking.best === null) choose("best", place);
  else if (ranking.best === place) desk.say(t("four.taken", { n: place + 1 }));
  else choose("worst", place);
}

function choose(end, place) {
  if (desk.busy) return;
  rank(chosen(ranking, end, place));
  if (ranking.best !== null && ranking.worst !== null) judge({ verdict: "ranked", ...ranking });
}

function clear() {
  if (desk.busy || ranking === NONE) return false;
  rank(NONE);
}

async function judge(pick) {
  if (desk.busy) return;
  if (!(await desk.pick(pick))) rank(NONE);
}

/** Shows a ranking in the panes and asks for what is missing. */
export function rank(next) {
  ranking = next;
  parts.panes.forEach(({ element, head }, place) => {
    const mark = ENDS.find((end) => ranking[end] === place);
    for (const end of ENDS) element.classList.toggle(end, end === mark);
    head.dataset.mark = mark ? t(`four.${mark}`) : "";
  });
  for (const end of ENDS) parts[end].forEach((button, place) => button.setAttribute("aria-pressed", String(ranking[end] === place)));
  parts.root.dataset.next = ranking.best === null ? "best" : "worst";
  parts.clear.hidden = ranking.best === null && ranking.worst === null;
  replace(parts.step, asked());
}

function asked() {
  const { best, worst } = spoken(ranking);
  if (ranking.best === null && ranking.worst === null) return t("four.ask_best");
  return ranking.best === null ? t("four.ask_best_after", { worst }) : t("four.ask_worst", { best });
}

const spoken = ({ best, worst }) => ({ best: best + 1, worst: worst + 1 }); // places count from 1 on the screen

function build() {
  const panes = PLACES.map((place) => {
    const label = t("four.answer", { n: place + 1 });
    return new Pane({ id: `pane-${place + 1}`, tone: "one-of-four", title: label, label });
  });
  const best = PLACES.map((place) => endButton("best", `pick-${place + 1}`, place));
  const worst = PLACES.map((place) => endButton("worst", `worst-${place + 1}`, place));
  panes.forEach((pane, place) => pane.element.append(h("div", { class: "ends" }, best[place], worst[place])));
  const step = h("span", { class: "step", role: "status" });
  const before = h("span", { class: "sub" });
  const clearButton = action({ id: "four-clear", label: "four.clear", keys: ["Backspace"], look: "small", act: clear });
  const detailsPlace = h("div", { class: "details-place" });
  const bar = h("div", { id: "actions", class: "card actions", role: "group", "aria-label": t("pick.bar") },
    h("div", { class: "asked" }, h("div", {}, step, before), clearButton),
    h("div", { class: "mid" },
      judgeButton("pick-tie", "four.same", "T", "tie"), judgeButton("pick-both-bad", "four.all_bad", "B", "both_bad"),
      judgeButton("pick-skip", "pick.skip", "S", "skip", "quiet"), undoButton(desk), moreButton()));
  const root = h("div", { id: "four", class: "mode" },
    h("div", { class: "panes" }, panes.map((pane) => pane.element)),
    unfoldButton(),
    detailsPlace,
    dock(bar, foot(desk, { flag: () => judge({ verdict: "flag" }) })));
  return { root, panes, best, worst, step, before, clear: clearButton, detailsPlace };
}

function endButton(end, id, place) {
  const button = action({ id, label: `four.${end}`, keys: [String(place + 1)], look: end, act: () => choose(end, place) });
  button.setAttribute("aria-label", t(`four.${end}_of`, { n: place + 1 }));
  return button;
}

const judgeButton = (id, label, key, verdict, look) => action({ id, label, keys: [key], look, act: () => judge({ verdict }) });
