// The annotator's desk: owns what is on the screen and hands it to the mode that can show it.
//
// A mode (pair_view.js, four.js, conversation.js) is a module that exports
//   show(item, desk)   paints an item; puts its own root element into desk.stage (replaceChildren)
//   hide()             takes it off the stage, stops its timers and streams
//   keys               {name: (desk, event) => ...}, names as in keys.js: "1", "Shift+1", "ArrowLeft",
//                      "s"; a handler that returns false leaves the key to the browser
//   legend             optional: [[key name, catalogue key], ...] for the help overlay
// A guest (practice.js, past.js) is a mode that shows something else: show(given, desk); it has the stage
// until desk.resume(), while what comes for the desk waits behind it.
// A view (picks.js at #picks, account.js at #account) exports show(container, desk) and hide().

import { ApiError, call, sentence } from "./api.js";
import { Clock } from "./clock.js";
import { details } from "./details.js";
import { $, h, replace } from "./dom.js";
import { guidelines } from "./guidelines.js";
import { help } from "./help.js";
import { t } from "./i18n.js";
import { listen } from "./keys.js";
import { Outbox, pause, uuid } from "./outbox.js";
import * as pair from "./pair_view.js";
import { showProgress } from "./progress.js";
import { hidePrompt, showPrompt, wirePrompt } from "./prompt.js";
import { aids } from "./reading.js";
import { here, start } from "./shell.js";
import { hideWaiting, showWaiting } from "./waiting.js";

const LOOK_MS = 200; // a pick this soon after a new pair came cannot be about that pair
const POLL_MS = 2000;
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
  settings: { reasons: [], skip_reasons: [], flag_reasons: [], fold_height: 480 },
  screen: { item: null, waiting: null, progress: null, guidelines_version: null },
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
let mode = null; // the module on the stage
let view = null; // the module of location.hash; null for the desk itself
let poll = 0; // timer of the next look while waiting
let guest = ""; // name of the guest on the stage
let practice = []; // to be done before the first real pick

start({ page: "annotate", view: open });

async function open(main) {
  desk.stage = $("#stage", main);
  aids.wire(main, say);
  wirePrompt();
  details.wire(desk);
  guidelines.wire(main);
  help.wire(() => mode?.legend ?? [], practiseAgain);
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
  const answer = await patiently(() => call("GET", path));
  Object.assign(desk, { user: answer.user, settings: answer.settings });
  practice = answer.practice ?? [];
  let screen = answer;
  for (const id of outbox.of(desk.user.name)) {
    const sent = await deliver(id).catch((error) => {
      if (!(error instanceof ApiError)) throw error;
      return {}; // refused: the screen says what comes next
    });
    screen = sent.screen ?? (await patiently(() => call("POST", "/desk/next")));
  }
  if (practice.length) await lend("practice", { items: practice });
  await paint(screen);
}

async function paint(screen) {
  clearTimeout(poll);
  desk.screen = screen;
  showProgress(screen.progress);
  guidelines.version(screen.guidelines_version);
  if (guest) return;
  if (!screen.item) return wait(screen.waiting);
  takeStage(await MODES[screen.item.kind]());
  details.fill(screen.item);
  showPrompt(screen.item.prompt);
  mode.show(screen.item, desk);
  clock.start();
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
  poll = setTimeout(look, POLL_MS);
}

/** Looks again while waiting; a hidden page asks for nothing. */
async function look() {
  clearTimeout(poll);
  if (desk.screen.item || guest || desk.busy || document.hidden) return;
  await next();
}

async function next() {
  try {
    const screen = await call("POST", "/desk/next");
    notice("");
    await paint(screen);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    notice(error.passing ? t("status.gone") : sentence(error));
    poll = setTimeout(look, POLL_MS);
  }
}

// --- picks ----------------------------------------------------------------------------------------

async function pick(choice) {
  const pairId = desk.item?.pair_id;
  if (desk.busy || !pairId || clock.sinceShown() < LOOK_MS) return false;
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
    const { screen } = await deliver(id);
    details.clear();
    say(t(`status.saved.${choice.verdict}`));
    if (screen) await paint(screen);
    else await next(); // another tab sent it
    return true;
  } catch (error) {
    await refused(error);
    return false;
  } finally {
    desk.busy = false;
  }
}

/** Sends a pick until the server has decided about it; says so while it has not. */
async function deliver(id) {
  const answer = await outbox.deliver(id, () => notice(t("status.unsaved")));
  notice("");
  return answer;
}

async function refused(error) {
  if (!(error instanceof ApiError)) throw error;
  mode?.refused?.();
  say(error.status === 409 ? t("status.elsewhere") : sentence(error));
  if (error.status === 409 || error.status === 404) await next();
}

async function undo() {
  if (desk.busy || guest) return;
  desk.busy = true;
  try {
    const { undone, screen } = await call("POST", "/desk/undo");
    notice("");
    say(t(undone ? "status.undone" : "status.nothing_to_undo"));
    if (undone) await paint(screen);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    notice(sentence(error));
  } finally {
    desk.busy = false;
  }
}

/** Repeats a request that changes nothing until it succeeds. */
async function patiently(request) {
  for (let wait = 500; ; wait = Math.min(wait * 2, 5000)) {
    try {
      const answer = await request();
      notice("");
      return answer;
    } catch (error) {
      if (!error.passing) {
        notice(sentence(error));
        throw error;
      }
      notice(t("status.gone"));
      await pause(wait);
    }
  }
}

// --- words and places -----------------------------------------------------------------------------

/** Tells everybody, screen readers too. The same sentence twice is read twice. */
function say(text) {
  replace($("#status"), h("span", {}, text));
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
    view = await load();
    view.show(replace($("#view")), desk);
  } else if (past) {
    await lend("past", given);
  } else if (name === "guidelines") {
    history.replaceState(null, "", location.pathname);
    guidelines.open();
  } else if (!load && guest === "past") await resume();
}
