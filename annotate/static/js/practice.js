// The practice round: pairs with an expected pick and an explanation. Nothing of it is a pick.

import { ApiError, call, sentence } from "./api.js";
import { h, replace } from "./dom.js";
import { t } from "./i18n.js";
import * as pair from "./pair_view.js";
import { showPrompt } from "./prompt.js";

const ANSWER_KEYS = ["1", "2", "3", "4", "ArrowLeft", "ArrowRight"];

let parts = null;
let desk = null;
let asking = null; // stands in for the desk while an item is on the stage; busy once it is answered
let round = { items: [], at: 0, right: 0 };

export const keys = {
  ...Object.fromEntries(ANSWER_KEYS.map((key) => [key, () => pair.keys[key]()])),
  Enter: (_, { target }) => (parts.result.hidden || target.closest("a, button, summary") ? false : next()),
  w: () => {}, // there is nothing to say why about
};

export const legend = pair.legend.filter(([key]) => ANSWER_KEYS.includes(key));

export const idle = ["U", "W"];

/** `items` as GET /desk gives them; the round goes on where it was left. `again`: it may be left. */
export function show({ items, again = false }, owner) {
  desk = owner;
  parts ??= build();
  parts.leave.hidden = !again;
  if (round.items !== items) round = { items, at: 0, right: 0 };
  desk.stage.replaceChildren(parts.root);
  ask();
}

export function hide() {
  parts.root.remove();
}

function ask() {
  const item = { ...round.items[round.at], kind: "pair", pair_id: null, before: null };
  asking = Object.create(desk, {
    stage: { value: parts.host },
    item: { value: item },
    busy: { value: false, writable: true },
    pick: { value: answer },
  });
  replace(parts.place, t("practice.place", { at: round.at + 1, all: round.items.length }));
  parts.result.hidden = true;
  parts.root.classList.remove("answered");
  showPrompt(item.prompt);
  pair.show(item, asking);
}

async function answer({ verdict }) {
  asking.busy = true;
  const { practice_id } = round.items[round.at];
  try {
    const told = await call("POST", `/desk/practice/${practice_id}`, { verdict });
    desk.notice("");
    explain(told);
    return true; // busy from here on: it is answered
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    desk.notice(sentence(error));
    asking.busy = false;
    return false;
  }
}

function explain({ correct, expected, explanation_html }) {
  round.right += correct ? 1 : 0;
  const last = round.at + 1 === round.items.length;
  const said = t(correct ? "practice.right" : "practice.wrong", { expected: t(`practice.expected.${expected}`) });
  const why = h("div", { class: "guidelines", dir: "auto" });
  why.innerHTML = explanation_html; // from the server's own Markdown, as guidelines are
  replace(parts.result,
    h("div", {}, h("h2", { class: correct ? "right" : "wrong" }, said), why),
    h("button", { type: "button", id: "practice-next", class: "btn primary", onclick: next },
      h("span", {}, t(last ? "practice.end" : "practice.next")), h("kbd", { "aria-hidden": "true" }, "⏎")));
  parts.result.hidden = false;
  parts.root.classList.add("answered");
  parts.result.focus();
  desk.say(said);
}

async function next() {
  round.at += 1;
  if (round.at < round.items.length) return ask();
  desk.say(t("practice.done", { right: round.right, n: round.items.length }));
  await leave();
}

async function leave() {
  round = { items: [], at: 0, right: 0 };
  desk.practised();
  await desk.resume();
}

function build() {
  const place = h("b", {});
  const leaveButton = h("button", { type: "button", id: "practice-leave", class: "btn small", onclick: leave }, t("practice.leave"));
  const host = h("div", { class: "host" });
  const result = h("section", { id: "practice-result", class: "card result", tabindex: "-1", hidden: true, "aria-label": t("practice.result") });
  const banner = h("section", { class: "banner", "aria-label": t("practice.title") }, place, h("span", {}, t("practice.not_stored")), leaveButton);
  return { root: h("div", { id: "practice", class: "mode guest" }, banner, host, result), place, host, result, leave: leaveButton };
}
