// The training room: runs and their queue, one run beside others, and the form that starts one.
import { call, sentence } from "./api.js";
import { copyText } from "./copying.js";
import { $, h, replace } from "./dom.js";
import { tell } from "./form.js";
import { t } from "./i18n.js";
import { morph } from "./morph.js";
import { start } from "./shell.js";
import { Feed } from "./train_feed.js";
import { StartForm } from "./train_form.js";
import { list } from "./train_list.js";
import { nextRound } from "./train_round.js";
import { RunView, TABS } from "./train_run.js";
import { KINDS } from "./train_words.js";

const TONES = 8;
const MOST = 8; // runs in one chart
const NEWS_MS = 10_000;

let main;
let feed;
let runView;
let form;
let trouble = ""; // that stands on the screen
let fading = 0;
let place = {}; // {focus, tab} or {kind}: what the address says
const compared = new Set();
const slots = new Map(); // run id -> its colour, for as long as it is chosen

await start({ page: "train", view });

async function view(element) {
  main = element;
  feed = new Feed(show);
  runView = new RunView(feed);
  form = new StartForm(started);
  addEventListener("hashchange", go);
  main.addEventListener("click", act);
  main.addEventListener("change", compare);
  await feed.look();
  await go();
}

/** #new/KIND, #RUN/TAB+RUN+RUN, or nothing: then the run at work, or the newest one. */
async function go() {
  const asked = hash();
  const [here, ...others] = asked.split("+");
  const [name, more] = here.split("/");
  await Promise.allSettled(others.filter((id) => !feed.run(id)).map((id) => feed.fetchDetail(id))); // older than the list
  if (asked !== hash()) return;
  for (const id of others) if (feed.run(id)) compared.add(id);
  if (name === "new") place = { kind: KINDS.includes(more) ? more : "round" };
  else place = { focus: name || null, tab: TABS.includes(more) ? more : (place.tab ?? "charts") };
  main.querySelector(".train").classList.toggle("at-list", !name);
  if (place.focus) history.replaceState(null, "", address());
  show();
  if (place.focus || chosen().length) feed.watch(chosen(), focus());
}

/** Of an address that was mangled on its way nothing is left. */
function hash() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}

/** Of what is on the screen, with the runs beside it: to be shared. */
function address() {
  const others = [...compared].filter((id) => id !== focus());
  return `#${focus()}/${place.tab ?? "charts"}${others.map((id) => `+${id}`).join("")}`;
}

/** On a wide screen a run is always open; a narrow one shows the list first. */
function focus() {
  if (place.kind) return null;
  const tops = feed.tops();
  const usual = tops.findLast((run) => run.status === "running") ?? tops[0];
  return place.focus ?? usual?.run_id ?? null;
}

function chosen() {
  return [...new Set([focus(), ...compared])].filter((id) => id && feed.run(id)).slice(0, MOST);
}

/** A run keeps its colour while it is chosen, and gets the same one again if that is free. */
function tone(id) {
  const leaves = new Set(chosen().flatMap(feed.leaves));
  for (const old of slots.keys()) if (!leaves.has(old)) slots.delete(old);
  if (!slots.has(id)) {
    const wanted = Number(id.slice(4)) % TONES;
    const taken = new Set(slots.values());
    const free = [...Array(TONES).keys()].map((n) => (wanted + n) % TONES).find((slot) => !taken.has(slot));
    slots.set(id, free ?? wanted);
  }
  return `var(--run-${slots.get(id)})`;
}

function show() {
  const view = { focus: focus(), chosen: chosen(), tab: place.tab ?? "charts", tone };
  const { focus: wanted, tab } = view;
  view.stale = () => focus() !== wanted || (place.tab ?? "charts") !== tab;
  const marked = { ...view, chosen: view.chosen.flatMap(feed.leaves) };
  morph($("#list", main), list(feed, marked));
  morph($("#next-round", main), nextRound(feed.stats));
  if (feed.trouble) say(feed.trouble, true);
  else if (trouble) say("");
  trouble = feed.trouble;
  const desk = $("#desk", main);
  main.querySelector(".train").classList.toggle("starting", Boolean(place.kind));
  if (place.kind) {
    if (desk.firstChild !== form.element) replace(desk, form.element);
    form.show(place.kind);
  } else if (view.focus) {
    if (desk.firstChild !== runView.element) replace(desk, runView.element);
    runView.show(view);
  } else replace(desk, h("div", { class: "card first" }, h("h2", {}, t("train.first")), h("p", { class: "sub" }, t("train.first.how")), h("a", { class: "btn primary", href: "#new" }, t("train.new"))));
}

/** What just happened; good news goes again, what went wrong stays until something else happens. */
function say(words, bad = false) {
  tell(words);
  $("#status", main).classList.toggle("bad", bad);
  clearTimeout(fading);
  if (!bad) fading = setTimeout(() => tell(""), NEWS_MS);
}

// --- what people do -------------------------------------------------------------------------------

async function act(event) {
  const button = event.target.closest("[data-do]");
  if (!button || button.matches("input")) return;
  const { do: what, run: id } = button.dataset;
  if (what === "copy") return copy(button);
  if (what === "older") return feed.older();
  if (what === "change") return change(feed.run(id));
  if (what === "cancel" && !(await sure(id))) return;
  button.disabled = true;
  try {
    const { run_id: made } = await call("POST", `/runs/${id}/${what}`);
    say(t(`train.did.${what}`, { run: id, made }));
    if (what === "repeat") location.hash = made;
    await feed.look();
  } catch (error) {
    say(sentence(error), true);
  } finally {
    button.disabled = false;
  }
}

/** The form with what was set by hand for this run. */
function change({ kind, asked, config }) {
  form.take(kind, asked ?? config.settings ?? {}); // of a run with details `config` has all settings
  location.hash = `new/${kind}`;
}

async function copy(button) {
  const text = button.parentElement.parentElement.querySelector(button.dataset.from)?.textContent ?? "";
  const done = await copyText(text);
  say(t(done ? "train.copied" : "train.not_copied"), !done);
}

/** Cancelling throws away what is left to do: asked for once more unless the run only waits. */
async function sure(id) {
  const status = feed.run(id)?.status;
  if (status === "queued") return true;
  const hint = t(status === "paused" ? "train.cancel_hint.paused" : "train.cancel_hint");
  const dialog = h("dialog", { class: "ask", "aria-labelledby": "ask-title" }, h("form", { method: "dialog" },
    h("h2", { id: "ask-title" }, t("train.cancel_ask", { run: id })), h("p", {}, hint),
    h("div", { class: "form-end" },
      h("button", { class: "btn", value: "keep", autofocus: true }, t("train.keep")),
      h("button", { class: "btn danger", value: "cancel" }, t("train.do.cancel")))));
  main.append(dialog);
  dialog.showModal();
  await new Promise((closed) => { dialog.addEventListener("close", closed, { once: true }); });
  dialog.remove();
  return dialog.returnValue === "cancel";
}

/** Puts a run into the charts or takes it out. */
function compare(event) {
  const box = event.target.closest("input[data-do=compare]");
  if (!box) return;
  if (!box.checked) compared.delete(box.dataset.run);
  else if (chosen().length < MOST) compared.add(box.dataset.run);
  else say(t("train.compare_most", { n: MOST }), true);
  history.replaceState(null, "", main.querySelector(".at-list") ? "#" : address());
  feed.watch(chosen(), focus());
  show();
}

function started(id) {
  say(t("train.did.start", { run: id }));
  location.hash = id;
  feed.look();
}
