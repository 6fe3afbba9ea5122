// "My picks": the annotator's own picks, newest first, to search, read again and revise.

import { ApiError, call, sentence } from "./api.js";
import { reasonLabel } from "./details.js";
import { h, replace } from "./dom.js";
import { ago, verdictLabel } from "./history_words.js";
import { date, number, t } from "./i18n.js";

const PAGE = 30;
const LONGEST_PAGE = 200;
const TYPING_MS = 250; // the search starts when the hand rests
const VERDICTS = ["left", "right", "tie", "both_bad", "ranked", "skip", "flag"];
const SIDES = ["left", "right"];

/** Kept while a pick is open, so that the way back leads to the same place of the same list. */
const kept = { q: "", verdict: "", picks: [], top: 0 };
let parts = null;
let asked = 0; // the newest question; answers to older ones are dropped
let typing = 0;

export async function show(container) {
  parts = build();
  container.append(parts.root);
  await find({ limit: Math.min(LONGEST_PAGE, Math.max(PAGE, kept.picks.length)) });
  scrollTo(0, kept.top);
}

export function hide() {
  clearTimeout(typing);
  asked += 1;
  kept.top = scrollY;
}

/** The first page of what the form asks for; `limit` picks of it. */
async function find({ limit = PAGE } = {}) {
  const page = await fetchPage({ limit });
  if (!page) return;
  kept.picks = page.picks;
  replace(parts.list, page.picks.map(row));
  tell(page.more);
}

async function loadMore() {
  parts.more.disabled = true;
  const page = await fetchPage({ limit: PAGE, before: kept.picks.at(-1)?.seq });
  parts.more.disabled = false;
  if (!page) return;
  const rows = page.picks.map(row);
  kept.picks.push(...page.picks);
  parts.list.append(...rows);
  tell(page.more);
  rows[0]?.querySelector("a").focus();
}

/** One page of the API, or null when it failed or is no longer wanted. */
async function fetchPage(where) {
  const mine = (asked += 1);
  const wanted = { q: kept.q, verdict: kept.verdict, ...where };
  const query = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value !== "" && value !== undefined));
  try {
    const page = await call("GET", `/desk/picks?${query}`);
    if (mine !== asked) return null;
    parts.problem.hidden = true;
    return page;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (mine !== asked) return null;
    replace(parts.problem.firstChild, sentence(error));
    parts.problem.hidden = false;
    return null;
  }
}

/** How many there are, for eye and ear; what to do when there are none. */
function tell(more) {
  const n = kept.picks.length;
  const searched = Boolean(kept.q || kept.verdict);
  parts.more.hidden = !more;
  parts.empty.hidden = n > 0;
  parts.reset.hidden = !searched;
  parts.start.hidden = searched;
  replace(parts.empty.firstChild, t(searched ? "picks.none_fit" : "picks.none"));
  replace(parts.count, n === 0 ? t(searched ? "picks.none_fit" : "picks.none") : t(more ? "picks.shown_more" : "picks.shown", { n }));
}

// --- one pick -------------------------------------------------------------------------------------

function row(pick) {
  const marks = [
    pick.edited_text === null ? null : h("span", { class: "chip blue" }, t("picks.edited")),
    pick.reasons.map((reason) => h("span", { class: "chip" }, reasonLabel(reason))),
  ];
  return h("li", { class: "card past-row" },
    h("h3", { dir: "auto" }, h("a", { href: `#picks/${pick.id}` }, oneLine(pick.prompt) || t("picks.no_prompt"))),
    h("p", { class: "facts-line" }, h("b", {}, verdictLabel(pick)), marks,
      h("time", { datetime: pick.created, title: date(pick.created) }, ago(pick.created))),
    h("div", { class: pick.answers.length > 2 ? "sides of-four" : "sides" }, pick.answers.map((text, place) => side(pick, text, place))),
    pick.comment ? h("p", { class: "comment", dir: "auto" }, pick.comment) : null);
}

function side(pick, text, place) {
  const mark = markOf(pick, place);
  const name = pick.answers.length > 2 ? number(place + 1) : t(`pane.${SIDES[place]}`);
  return h("div", { class: `side ${pick.answers.length > 2 ? "" : SIDES[place]} ${mark}` },
    h("span", { class: "name" }, name, mark ? ` · ${t(`picks.${mark}`)}` : ""),
    h("p", { class: "others-text", dir: "auto" }, oneLine(text)));
}

/** "chosen", "best", "worst" or "". */
function markOf({ verdict, best, worst }, place) {
  if (verdict === "ranked") return place === best ? "best" : place === worst ? "worst" : "";
  return verdict === SIDES[place] ? "chosen" : "";
}

const oneLine = (text) => text.replace(/\s+/g, " ").trim();

// --- elements -------------------------------------------------------------------------------------

function build() {
  const search = h("input", { type: "search", id: "picks-search", value: kept.q, maxlength: "200", autocomplete: "off", oninput: () => {
    clearTimeout(typing);
    typing = setTimeout(change, TYPING_MS);
  } });
  const verdict = h("select", { id: "picks-verdict", onchange: change },
    h("option", { value: "" }, t("picks.all")),
    VERDICTS.map((each) => h("option", { value: each, selected: each === kept.verdict }, t(each === "ranked" ? "picks.best_worst" : `pick.${each}`))));
  const count = h("p", { class: "sub", role: "status" });
  const problem = h("p", { class: "notice", role: "alert", hidden: true }, h("span"), " ", h("button", { type: "button", class: "link", onclick: () => find() }, t("picks.again")));
  const reset = h("button", { type: "button", class: "btn", onclick: () => clear() }, t("picks.clear"));
  const start = h("a", { class: "btn primary", href: "#" }, t("picks.start"));
  const empty = h("div", { class: "card empty", hidden: true }, h("p", {}), reset, start);
  const list = h("ol", { class: "past-list", "aria-label": t("nav.picks") });
  const more = h("button", { type: "button", id: "picks-more", class: "btn", hidden: true, onclick: loadMore }, t("picks.more"));
  const form = h("form", { role: "search", class: "picks-form", onsubmit: (event) => (event.preventDefault(), change()) },
    labelled(t("picks.search"), search), labelled(t("picks.verdict"), verdict));
  const root = h("div", { id: "picks" }, h("div", { class: "picks-head" }, h("div", {}, h("h2", {}, t("nav.picks")), count), form), problem, list, empty, more);
  return { root, search, verdict, count, problem, reset, start, empty, list, more };
}

const labelled = (text, control) => h("label", {}, h("span", { class: "legend" }, text), control);

async function change() {
  clearTimeout(typing);
  const [q, verdict] = [parts.search.value.trim(), parts.verdict.value];
  if (q === kept.q && verdict === kept.verdict) return;
  Object.assign(kept, { q, verdict, top: 0 });
  await find();
}

async function clear() {
  parts.search.value = parts.verdict.value = "";
  await change();
  parts.search.focus();
}
