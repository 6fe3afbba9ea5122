// Pair mode: two answers side by side and one bar of actions. Conversations show their turns with it.

import { action, dock, foot, moreButton, undoButton } from "./actions.js";
import { details } from "./details.js";
import { h } from "./dom.js";
import { edit } from "./edit.js";
import { t } from "./i18n.js";
import { answerPath, Pane } from "./pane.js";
import { aids } from "./reading.js";

const SIDES = ["left", "right"];
const PICKS = {
  left: { id: "pick-left", label: "pick.left", keys: ["1", "ArrowLeft"], look: "l" },
  tie: { id: "pick-tie", label: "pick.tie", keys: ["3"] },
  both_bad: { id: "pick-both-bad", label: "pick.both_bad", keys: ["4"] },
  skip: { id: "pick-skip", label: "pick.skip", keys: ["S"], look: "quiet" },
  right: { id: "pick-right", label: "pick.right", keys: ["2", "ArrowRight"], look: "r" },
};

/** Built at the first show, when the language is known. */
let parts = null;
let desk = null; // whose item is on the stage: practice and past picks stand in for the desk

export const keys = {
  1: () => pick("left"),
  2: () => pick("right"),
  3: () => pick("tie"),
  4: () => pick("both_bad"),
  ArrowLeft: () => pick("left"),
  ArrowRight: () => pick("right"),
  "Shift+1": () => pick("left", 3),
  "Shift+2": () => pick("right", 3),
  s: () => pick("skip"),
  f: () => pick("flag"),
  e: () => edit.open(desk),
};

export const legend = [
  ["1", "pick.left"], ["2", "pick.right"], ["Shift + 1 / 2", "help.much"], ["3", "pick.tie"], ["4", "pick.both_bad"],
  ["S", "pick.skip"], ["F", "pick.flag"], ["E", "pick.edit"],
];

export function show(item, owner) {
  const { root } = mount(owner);
  item.answers.forEach((answer, index) => parts.panes[index].show(answer, answerPath(item.pair_id, index), aids.exact));
  aids.attend(parts.panes, desk.settings.fold_height);
  root.dataset.pair = item.pair_id; // last: whoever waits for a pair finds all of it
  if (matchMedia("(max-width: 760px)").matches) scrollTo(0, 0);
}

/** Puts the empty frame on the stage; a conversation streams into it before there is a pair. */
export function mount(owner) {
  desk = owner;
  parts ??= build();
  const { root } = parts;
  delete root.dataset.pair;
  if (root.parentElement !== desk.stage) desk.stage.replaceChildren(root);
  details.place(root.querySelector(".details-place"), true);
  return parts;
}

export function hide() {
  parts?.root.remove();
}

/** The pick on the screen was refused or could not be stored. */
export function refused() {
  for (const pane of parts.panes) pane.element.classList.remove("chosen");
}

async function pick(verdict, strength) {
  if (desk.busy) return;
  const pane = parts.panes[SIDES.indexOf(verdict)]?.element;
  const stored = desk.pick(strength ? { verdict, strength } : { verdict });
  if (desk.busy) pane?.classList.add("chosen"); // it was taken, not ignored
  if (!(await stored)) refused();
}

function build() {
  const panes = SIDES.map((side) => new Pane({ id: `pane-${side}`, tone: side, title: t(`pane.${side}`), label: t(`pane.${side}_answer`) }));
  const button = (verdict) => action({ ...PICKS[verdict], act: () => pick(verdict) });
  const middle = h("div", { class: "mid" }, button("tie"), button("both_bad"), button("skip"), undoButton(desk), moreButton());
  const bar = h("div", { id: "actions", class: "card actions", role: "group", "aria-label": t("pick.bar") }, button("left"), middle, button("right"));
  const root = h("div", { id: "pair", class: "mode" },
    h("div", { class: "panes" }, panes.map((pane) => pane.element)),
    unfoldButton(),
    h("div", { class: "details-place" }),
    dock(bar, foot(desk, { flag: () => pick("flag"), edit: () => edit.open(desk) })));
  return { root, panes };
}

/** Opens and closes the fold of all panes; reading.js shows it when there is one. */
export const unfoldButton = () => {
  const button = action({ id: "unfold", label: "aids.unfold", keys: ["A"], look: "small", act: () => aids.toggleFold() });
  button.hidden = true;
  return button;
};
