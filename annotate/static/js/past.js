// One past pick on the stage: read it, judge it anew, or take it back.

import { ApiError, call, sentence } from "./api.js";
import { Clock } from "./clock.js";
import { details, reasonLabel } from "./details.js";
import { forgetDraft } from "./edit.js";
import { h, replace } from "./dom.js";
import * as four from "./four.js";
import { ago, verdictLabel } from "./history_words.js";
import { date, t } from "./i18n.js";
import { uuid } from "./outbox.js";
import * as pair from "./pair_view.js";
import { showPrompt } from "./prompt.js";

const SIDES = ["left", "right"];

let parts = null;
let desk = null;
let shown = null; // {pick, item} of the API
let judging = null; // stands in for the desk; busy while the pick is only read
let revision = ""; // id of the pick that would replace it, so that one sent twice is stored once

const clock = new Clock();
const ACT_KEYS = [...new Set([...Object.keys(pair.keys), ...Object.keys(four.keys)])];

export const keys = {
  ...Object.fromEntries(ACT_KEYS.map((key) => [key, (...event) => revising() && (mode().keys[key]?.(...event) ?? true)])),
  r: () => (revising() ? false : revise()),
  w: () => (revising() ? details.toggle() : false),
  Escape: () => (revising() ? keep() : back()),
};

const READING = { legend: [["R", "picks.revise"], ["Esc", "picks.back"]], idle: ["U", "W"] };
export let { legend, idle } = READING;

/** `id` of one of this annotator's own picks that count. */
export async function show(id, owner) {
  desk = owner;
  parts ??= build();
  desk.say("");
  try {
    shown = await call("GET", `/desk/picks/${encodeURIComponent(id)}`);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    desk.say(error.status === 404 ? t("picks.gone") : sentence(error));
    return back();
  }
  revision = uuid();
  desk.stage.replaceChildren(parts.root);
  read();
  parts.banner.focus();
}

export function hide() {
  if (revising()) details.clear();
  parts.root.remove();
}

const mode = () => (shown.pick.kind === "four" ? four : pair);
const revising = () => parts.root.classList.contains("revising");
const back = () => location.assign("#picks");

/** The pick as it was made, with nothing to press but what is in the banner. */
function read() {
  const { pick, item } = shown;
  parts.root.classList.remove("revising");
  ({ legend, idle } = READING);
  if (mode().idle) idle = [...idle, ...mode().idle];
  judging = Object.create(desk, {
    stage: { value: parts.host },
    item: { value: { ...item, before: pick } },
    busy: { value: true, writable: true },
    pick: { value: store },
  });
  replace(parts.banner, said(pick), acts());
  showPrompt(item.prompt, item.pair_id);
  mode().show(judging.item, judging);
  if (pick.kind === "four") four.rank({ best: pick.best, worst: pick.worst });
  else markChosen(pick.verdict);
}

function markChosen(verdict) {
  pair.mount(judging).panes.forEach(({ element, head }, place) => {
    head.dataset.mark = t("picks.chosen");
    element.classList.toggle("chosen", SIDES[place] === verdict);
  });
}

function revise() {
  parts.root.classList.add("revising");
  legend = [["Esc", "picks.keep"], ...mode().legend];
  idle = ["U", ...(mode().idle ?? [])];
  judging.busy = false;
  details.fill(judging.item);
  mode().show(judging.item, judging);
  replace(parts.banner, h("div", { class: "said" }, h("b", {}, t("picks.revising")), h("span", {}, t("picks.was", { verdict: verdictLabel(shown.pick) }))),
    button("picks-keep", "picks.keep", "Esc", keep));
  clock.start();
  parts.banner.focus();
  desk.say(t("picks.revising"));
}

function keep() {
  details.clear();
  read();
  parts.banner.focus();
  desk.say(t("picks.kept"));
}

/** Replaces the pick on the server; what it was is kept there as retracted. */
async function store(choice) {
  judging.busy = true;
  const { pick, item } = shown;
  const body = {
    id: revision,
    pair_id: item.pair_id,
    ...details.values(choice.verdict),
    ...choice,
    ms_spent: clock.spent(),
    guidelines_version: desk.screen.guidelines_version,
  };
  try {
    await call("POST", `/desk/picks/${pick.id}/revise`, body);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    desk.notice(sentence(error));
    judging.busy = false;
    return false;
  }
  details.clear();
  forgetDraft(item.pair_id);
  desk.notice("");
  history.replaceState(null, "", `#picks/${revision}`);
  await show(revision, desk);
  desk.say(t("picks.revised"));
  return true;
}

async function takeBack() {
  let reopened;
  try {
    ({ reopened } = await call("DELETE", `/judgments/${shown.pick.id}`));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return desk.notice(sentence(error));
  }
  desk.notice("");
  desk.say(t(reopened ? "picks.taken_back" : "picks.withdrawn"));
  location.assign("#");
}

// --- the banner -----------------------------------------------------------------------------------

function said(pick) {
  return h("div", { class: "said" },
    h("div", { class: "row" },
      h("b", {}, verdictLabel(pick)),
      h("time", { datetime: pick.created, title: date(pick.created) }, ago(pick.created)),
      pick.reasons.map((reason) => h("span", { class: "chip" }, reasonLabel(reason)))),
    pick.comment ? h("p", { class: "comment", dir: "auto" }, pick.comment) : null,
    pick.edited_text === null ? null : h("details", {}, h("summary", {}, t("picks.edited_text")), h("div", { class: "others-text exact", dir: "auto" }, pick.edited_text)));
}

const acts = () => [
  h("a", { href: "#picks", class: "btn quiet", id: "picks-back", "aria-keyshortcuts": "Escape" }, t("picks.back")),
  button("picks-take-back", "picks.take_back", null, takeBack),
  button("picks-revise", "picks.revise", "R", revise, "primary"),
];

function button(id, label, key, act, look = "") {
  const shownKey = key ? h("kbd", { "aria-hidden": "true" }, key) : null;
  return h("button", { type: "button", id, class: `btn ${look}`, "aria-keyshortcuts": key && (key === "Esc" ? "Escape" : key), onclick: act }, h("span", {}, t(label)), shownKey);
}

function build() {
  const banner = h("section", { id: "past-pick", class: "banner", tabindex: "-1", "aria-label": t("picks.one") });
  const host = h("div", { class: "host" });
  return { root: h("div", { id: "past", class: "mode guest" }, banner, host), banner, host };
}
