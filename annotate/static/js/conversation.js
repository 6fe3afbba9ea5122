// Conversation: the annotator writes, both answers stream in at once, the chosen one continues the talk.

import { ApiError, call, send, sentence } from "./api.js";
import { $, h, replace } from "./dom.js";
import { t } from "./i18n.js";
import * as pair from "./pair_view.js";
import * as prefs from "./prefs.js";
import { showPrompt } from "./prompt.js";
import { lines } from "./streaming.js";

const DRAFT = "talk"; // what is typed or on its way: {conversation_id, turn, text}
const LONGEST = 20_000; // characters of one message
const MOVED = ["not_found", "conflict"]; // the talk is no longer where this page thinks it is

let parts = null;
let desk = null;
let item = null;
let stream = null; // AbortController of the answers that are coming

export const keys = Object.fromEntries(
  Object.entries(pair.keys).map(([key, act]) => [key, () => (item.pair_id ? act() : false)]),
);

const COMPOSING = { legend: [["Ctrl + ⏎", "talk.send"]], idle: ["W", "D", "A"] };
const JUDGING = { legend: pair.legend, idle: [] };
export let { legend, idle } = COMPOSING;

export function show(next, owner) {
  stop();
  const continued = item?.pair_id && !next.pair_id && item.conversation.conversation_id === next.conversation.conversation_id;
  desk = owner;
  item = next;
  parts ??= build();
  if (parts.root.parentElement !== desk.stage) desk.stage.replaceChildren(parts.root);
  head();
  if (item.pair_id) showPair();
  else compose();
  if (continued) desk.say(t("talk.continued"));
}

export function hide() {
  stop();
  $("#prompt-card").classList.remove("talk");
  replace($("#prompt-label"), t("prompt.title"));
  parts.tools.remove();
  parts.root.remove();
}

export const refused = pair.refused;

function stop() {
  stream?.abort();
  stream = null;
}

// --- what is on the stage -------------------------------------------------------------------------

/** The prompt card holds the talk so far, which turn it is and the way out. */
function head() {
  const { turn, turns } = item.conversation;
  $("#prompt-card").classList.add("talk");
  replace($("#prompt-label"), t("talk.title")).after(parts.tools);
  replace(parts.turn, t("talk.turn", { turn, turns }));
  parts.root.setAttribute("aria-label", t("talk.turn", { turn, turns }));
}

function showPair() {
  state("judging");
  pair.show(item, onHost());
  const { panes } = pair.mount(onHost());
  for (const pane of panes) pane.element.removeAttribute("aria-busy");
  $("#prompt").lastElementChild?.scrollIntoView({ block: "nearest" });
}

function compose(problem = "") {
  const { needs_message } = item.conversation;
  state("composing");
  replace(parts.problem, problem);
  replace(parts.submit.firstChild, t(problem ? "talk.again" : needs_message ? "talk.send" : "talk.start"));
  replace(parts.submit.lastChild, needs_message ? "Ctrl + ⏎" : "⏎");
  replace(parts.label, t(!needs_message ? "talk.given" : item.prompt.length ? "talk.continue" : "talk.open"));
  parts.field.hidden = parts.hint.hidden = !needs_message;
  parts.message.value = needs_message ? draft() : "";
  (needs_message ? parts.message : parts.submit).focus({ preventScroll: true });
}

/** "composing", "streaming" or "judging": picks are possible in the last one only. */
function state(name) {
  parts.root.dataset.state = name;
  ({ legend, idle } = name === "judging" ? JUDGING : COMPOSING);
  parts.composer.hidden = name !== "composing";
  parts.host.hidden = name === "composing";
  parts.end.disabled = name === "streaming";
  for (const button of parts.host.querySelectorAll(".dock button:not(#help, #more)")) button.disabled = name === "streaming";
}

/** The desk, with this mode's own place as its stage. */
const onHost = () => Object.create(desk, { stage: { value: parts.host } });

// --- asking ---------------------------------------------------------------------------------------

async function submit(event) {
  event.preventDefault();
  if (desk.busy) return;
  const { needs_message } = item.conversation;
  const message = parts.message.value.trim();
  if (needs_message && !message) {
    replace(parts.problem, t("talk.empty"));
    return parts.message.focus();
  }
  await ask(needs_message ? message : null);
}

async function ask(message) {
  const mine = (stream = new AbortController());
  let screen = null;
  desk.busy = true;
  wait(message);
  try {
    screen = await answers(message, mine.signal);
  } catch (error) {
    if (stream === mine) await failed(error, message); // else the stage shows something else by now
  } finally {
    mine.abort();
    desk.busy = false;
  }
  if (!screen || stream !== mine) return;
  forget();
  desk.say(t("talk.ready"));
  await desk.paint(screen);
}

/** Both panes, empty, with the message above them. */
function wait(message) {
  const said = message === null ? [] : [{ role: "user", content: message, chars: message.length }];
  showPrompt([...item.prompt, ...said]);
  for (const pane of pair.mount(onHost()).panes) {
    pane.clear();
    pane.element.classList.add("busy");
    pane.element.setAttribute("aria-busy", "true");
  }
  state("streaming");
  parts.root.focus({ preventScroll: true });
  desk.say(t("talk.coming"));
}

/** The screen that comes after both answers. Throws ApiError. */
async function answers(message, signal) {
  const { panes } = pair.mount(onHost());
  const response = await send("POST", `/desk/conversations/${item.conversation.conversation_id}/turns`, { message }, signal);
  for await (const { at, text, error, screen } of lines(response)) {
    if (screen) return screen;
    if (error) throw new ApiError(503, error);
    panes[at].append(text);
  }
  throw new ApiError(0, { code: "offline", message: "The answer broke off." });
}

/** Says so; what was typed stays typed. */
async function failed(error, message) {
  if (!(error instanceof ApiError)) throw error;
  if (MOVED.includes(error.code)) {
    desk.say(sentence(error));
    return desk.next();
  }
  showPrompt(item.prompt);
  desk.say("");
  compose(message === null ? sentence(error) : t("talk.failed", { why: sentence(error) }));
}

async function end() {
  if (desk.busy) return;
  desk.busy = true;
  try {
    const screen = await call("POST", `/desk/conversations/${item.conversation.conversation_id}/end`);
    forget();
    desk.notice("");
    desk.say(t("talk.ended"));
    await desk.paint(screen);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    desk.notice(sentence(error));
  } finally {
    desk.busy = false;
  }
}

// --- the draft ------------------------------------------------------------------------------------

const here = () => ({ conversation_id: item.conversation.conversation_id, turn: item.conversation.turn });

function draft() {
  const { conversation_id, turn } = here();
  const kept = prefs.get(DRAFT);
  return kept?.conversation_id === conversation_id && kept.turn === turn ? kept.text : "";
}

const keep = () => prefs.set(DRAFT, { ...here(), text: parts.message.value });
const forget = () => prefs.set(DRAFT, null);

// --- elements -------------------------------------------------------------------------------------

function build() {
  const turn = h("span", { class: "chip", id: "talk-turn" });
  const endButton = h("button", { type: "button", id: "talk-end", class: "btn small", onclick: end }, t("talk.end"));
  const label = h("label", { for: "talk-message", class: "legend" });
  const message = h("textarea", { id: "talk-message", rows: "3", dir: "auto", maxlength: LONGEST, "aria-describedby": "talk-problem", oninput: keep, onkeydown: shortcut });
  const problem = h("p", { id: "talk-problem", class: "problem", role: "alert" });
  const hint = h("span", { class: "sub" }, t("talk.kept"));
  const submitButton = h("button", { id: "talk-send", class: "btn primary", "aria-keyshortcuts": "Control+Enter" }, h("span"), h("kbd", { "aria-hidden": "true" }));
  const field = h("div", { class: "field" }, message);
  const composer = h("form", { id: "talk-composer", class: "card composer", onsubmit: submit }, label, field, problem, h("div", { class: "row" }, hint, submitButton));
  const host = h("div", { class: "host", hidden: true });
  return {
    root: h("div", { id: "talk", class: "mode", tabindex: "-1", role: "group" }, host, composer),
    tools: h("div", { class: "talk-tools" }, turn, endButton),
    turn, end: endButton, label, field, message, problem, hint, submit: submitButton, composer, host,
  };
}

function shortcut(event) {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
  event.preventDefault();
  parts.composer.requestSubmit();
}
