// The annotator's desk: owns what is on the screen and hands it to the mode that can show it.
//
// A mode (pair_view.js, four.js, conversation.js) is a module that exports
//   show(item, desk)   paints an item; puts its own root element into desk.stage (replaceChildren)
//   hide()             takes it off the stage, stops its timers and streams
//   keys               {name: (desk, event) => ...}, names as in keys.js: "1", "Shift+1", "ArrowLeft",
//                      "s"; a handler that returns false leaves the key to the browser
//   legend             optional: [[key name, catalogue key], ...] for the help overlay
//   idle               optional: names of the desk's own keys that do nothing in this mode
// A guest (practice.js, past.js) is a mode that shows something else: show(given, desk); it has the stage
// until desk.resume(), while what comes for the desk waits behind it.
// A view (picks.js at #picks, account.js at #account) exports show(container, desk) and hide().

import { ApiError, call, sentence } from "./api.js";
import { Clock } from "./clock.js";
import { details } from "./details.js";
import { forgetDraft } from "./edit.js";
import { $, h, replace } from "./dom.js";
import { guidelines } from "./guidelines.js";
import { help } from "./help.js";
import { t } from "./i18n.js";
import { listen } from "./keys.js";
import { Outbox, uuid } from "./outbox.js";
import * as pair from "./pair_view.js";
import { patiently } from "./patience.js";
import { whilePresent } from "./presence.js";
import { showProgress } from "./progress.js";
import { hidePrompt, showPrompt, wirePrompt } from "./prompt.js";
import { aids } from "./reading.js";
import { here, start } from "./shell.js";
import { hideWaiting, showWaiting } from "./waiting.js";

const LOOK_MS = 200; // a pick this soon after a new pair came cannot be about that pair
const FIRST_POLL_MS = 150; // a pair is sampled within half a second or two
const LONGEST_POLL_MS = 2000;
const MODES = {
  pair: () => pair,
  four: () => import("./four.js"),
  conversation: () => import("./conversation.js"),
};
const GUESTS = { practice: () => import("./practice.js"), past: () => import("./past.js") };
const VIEWS = { picks: () => import("./picks.js"), account: () => import("./account.js") };

/** What modes and views may use; only the functions change anything. */
export const desk = {
  stage: null, // the element that holds what a mode shows
  user: null, // {name, role, languages, goal}
  settings: { reasons: [], skip_reasons: [], flag_reasons: [], fold_height: 480, lease_s: 600 },
  screen: { item: null, waiting: null, progress: null, guidelines_version: null, undo: null },
  busy: false, // a pick or an undo is on its way; more of them are ignored meanwhile
  get item() {
    return desk.screen.item;
  },
  pick, // (verdict fields) -> Promise<bool>: stored, and the next screen shown
  undo, // () -> Promise
  paint, // (Screen) -> Promise: shows a screen that another call brought
  next, // () -> Promise: asks for the screen and shows it
  lend, // ("practice" or "past", what it shows) -> Promise: gives the stage to a guest
  resume, // () -> Promise: takes the stage back
  practised, // () the practice round is over
  say, // (sentence) for the live region
  said: "", // the newest of them
  notice, // (sentence or "") for the line about the connection
  help: () => help.open(),
};

const clock = new Clock();
const outbox = new Outbox();
const shared = {
  u: () => undo(),
  g: () => guidelines.open(),
  x: () => aids.toggleExact(),
  d: () => aids.toggleDifferences(),
  a: () => aids.toggleFold(),
  w: () => details.toggle(),
  "?": () => help.open(),
};
const NOTHING = { legend: [], idle: ["W", "D", "X", "A"] };
let mode = null; // the module on the stage
let view = null; // the module of location.hash; null for the desk itself
let poll = 0; // timer of the next look
let pollMs = FIRST_POLL_MS; // until then
let stale = false; // what is on the screen is done with, but the next one could not be had
let guest = ""; // name of the guest on the stage
let practice = []; // to be done before the first real pick

start({ page: "annotate", view: open });

async function open(main) {
  desk.stage = $("#stage", main);
  aids.wire(main, say);
  wirePrompt();
  details.wire(desk);
  guidelines.wire(main);
  help.wire(() => mode ?? NOTHING, practiseAgain);
  listen(() => (view ? {} : { ...shared, ...mode?.keys }), desk);
  addEventListener("hashchange", route);
  document.addEventListener("visibilitychange", () => document.hidden || look());
  outbox.storedElsewhere = (pairId) => pairId === desk.item?.pair_id && !desk.busy && next();
  await first();
  await route();
}

// --- screens --------------------------------------------------------------------------------------

/** The first screen, after every pick that an earlier page could not save. */
async function first() {
  const path = `/desk?utc_offset=${-new Date().getTimezoneOffset()}`;
  const answer = await patiently(() => call("GET", path), notice);
  Object.assign(desk, { user: answer.user, settings: answer.settings });
  practice = answer.practice ?? [];
  let screen = answer;
  for (const id of outbox.of(desk.user.name)) {
    const sent = await deliver(id, 1).catch((error) => {
      if (!(error instanceof ApiError)) throw error;
      return {}; // refused: the screen says what comes next
    });
    screen = sent.screen ?? (await patiently(() => ask(sent.kept), notice));
    if (sent.kept) notice(t("status.kept"));
  }
  if (practice.length) await lend("practice", { items: practice });
  await paint(screen);
}

async function paint(screen) {
  clearTimeout(poll);
  const module = screen.item && (await MODES[screen.item.kind]()); // until it is there, the old item is
  desk.screen = screen;
  stale = false;
  showProgress(screen.progress);
  guidelines.version(screen.guidelines_version);
  if (guest) return;
  if (!screen.item) return wait(screen.waiting);
  pollMs = FIRST_POLL_MS;
  takeStage(module);
  details.fill(screen.item);
  showPrompt(screen.item.prompt, screen.item.pair_id);
  mode.show(screen.item, desk);
  clock.start();
  whilePresent(desk.settings.lease_s, keep);
}

/** Renews the lease of the pair on the screen: it is asked for again, and stays as it is. */
async function keep() {
  if (!desk.item?.pair_id || desk.busy || guest || stale) return;
  await ask().catch((error) => {
    if (!(error instanceof ApiError)) throw error; // without a lease a pick may still count
  });
}

function takeStage(module) {
  hideWaiting();
  if (mode !== module) mode?.hide();
  mode = module;
}

async function lend(name, given) {
  clearTimeout(poll);
  takeStage(await GUESTS[name]());
  guest = name;
  await mode.show(given, desk);
}

async function resume() {
  if (!guest) return;
  mode.hide();
  mode = null;
  guest = "";
  if (practice.length) await lend("practice", { items: practice });
  else await next(); // the lease of what was here may be over
}

function practised() {
  practice = [];
}

async function practiseAgain() {
  if (desk.busy) return;
  try {
    const { practice: items } = await call("GET", "/desk/practice");
    if (items.length) await lend("practice", { items, again: true });
    else say(t("practice.none"));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    notice(sentence(error));
  }
}

function wait(waiting) {
  mode?.hide();
  mode = null;
  hidePrompt();
  showWaiting(desk, waiting);
  lookSoon();
}

function lookSoon() {
  clearTimeout(poll);
  poll = setTimeout(look, pollMs);
  pollMs = Math.min(pollMs * 1.5, LONGEST_POLL_MS);
}

/** Looks again while there is nothing to pick; a hidden page asks for nothing until it is seen. */
async function look() {
  clearTimeout(poll);
  if (guest || document.hidden || (desk.screen.item && !stale)) return;
  if (desk.busy) lookSoon();
  else await next();
}

/** `aside`: a pair to go on without for now. */
async function next(aside) {
  try {
    const screen = await ask(aside);
    notice("");
    await paint(screen);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    stale = true;
    notice(error.passing ? t("status.gone") : sentence(error));
    lookSoon();
  }
}

const ask = (aside) => call("POST", "/desk/next", aside && { aside });

// --- picks ----------------------------------------------------------------------------------------

async function pick(choice) {
  const pairId = desk.item?.pair_id;
  if (desk.busy || stale || !pairId || clock.sinceShown() < LOOK_MS) return false;
  desk.busy = true;
  try {
    const id = uuid();
    outbox.add(desk.user.name, {
      id,
      pair_id: pairId,
      ...details.values(choice.verdict),
      ...choice,
      ms_spent: clock.spent(),
      guidelines_version: desk.screen.guidelines_version,
    });
    const { screen, kept } = await deliver(id);
    details.clear();
    forgetDraft(pairId);
    say(kept ? "" : t(`status.saved.${choice.verdict}`));
    if (screen) await paint(screen);
    else await next(kept); // another tab sent it, or nobody can for now
    if (kept) notice(t("status.kept"));
    return true;
  } catch (error) {
    await refused(error);
    return false;
  } finally {
    desk.busy = false;
  }
}

/** Sends a pick until the server has decided about it; says so while it has not. */
async function deliver(id, failures) {
  const answer = await outbox.deliver(id, () => notice(t("status.unsaved")), failures);
  notice("");
  return answer;
}

async function refused(error) {
  if (!(error instanceof ApiError)) throw error;
  mode?.refused?.();
  say(error.status === 409 ? t("status.elsewhere") : sentence(error));
  if (error.status === 409 || error.status === 404) await next();
}

/** Names the pick, so that a repeated undo is the same undo. */
async function undo() {
  if (desk.busy || guest) return;
  if (!desk.screen.undo) return say(t("status.nothing_to_undo"));
  desk.busy = true;
  try {
    const { undone, screen } = await call("POST", "/desk/undo", { judgment_id: desk.screen.undo });
    notice("");
    say(t(undone ? "status.undone" : "status.nothing_to_undo"));
    if (undone) await paint(screen);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.passing) return notice(sentence(error));
    say(sentence(error)); // its pair is with others now
    if (error.status === 404) await next(); // it no longer counts: another page took it back
  } finally {
    desk.busy = false;
  }
}

// --- words and places -----------------------------------------------------------------------------

/** Tells everybody, screen readers too. The same sentence twice is read twice. */
function say(text) {
  desk.said = text;
  replace($("#status"), text ? h("span", {}, text) : null);
}

function notice(text) {
  const line = $("#notice");
  if (line.textContent !== text) line.textContent = text;
}

async function route() {
  const [name, given] = location.hash.slice(1).split("/"); // "picks/ID" is a past pick on the stage
  const past = name === "picks" && given;
  view?.hide();
  view = null;
  const load = past ? null : VIEWS[name];
  $("#desk").hidden = Boolean(load);
  $("#view").hidden = !load;
  here(load || past ? name : "annotate");
  if (load) {
    say(""); // what was said at the desk is no news here
    view = await load();
    view.show(replace($("#view")), desk);
  } else if (past) {
    await lend("past", given);
  } else if (name === "guidelines") {
    history.replaceState(null, "", location.pathname);
    guidelines.open();
  } else if (!load && guest === "past") await resume();
}
