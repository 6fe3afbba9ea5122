// People: who may sign in, as what, and the links that let them choose a password.
import { ApiError, call, sentence } from "./api.js";
import { $, h, replace } from "./dom.js";
import { tell } from "./form.js";
import { date, number, t } from "./i18n.js";
import { askDisable, askInvite, askLink } from "./people_ask.js";
import { start } from "./shell.js";

const ROLES = ["annotator", "researcher", "admin"];
const DAY = { dateStyle: "medium" };

let main;
let me;
let people = [];

await start({ page: "people", view });

async function view(place, user) {
  [main, me] = [place, user];
  $("#invite", main).addEventListener("click", () => askInvite(refresh));
  $("#find", main).addEventListener("input", draw);
  $(".find", main).addEventListener("submit", (event) => event.preventDefault());
  await attempt(refresh);
}

async function refresh() {
  people = (await call("GET", "/users")).users;
  people.sort((a, b) => b.active - a.active || a.name.localeCompare(b.name));
  draw();
}

/** Does something to the server's list and shows it anew; the server's sentence when it refuses. */
async function attempt(work, words) {
  const problem = $("#problem", main);
  problem.hidden = true;
  try {
    await work();
    if (words) tell(words);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    tell("");
    problem.textContent = sentence(error);
    problem.hidden = false;
  }
}

// --- the lists -----------------------------------------------------------------------------------

function draw() {
  const focus = document.activeElement?.dataset.focus;
  const humans = people.filter((person) => person.source !== "simulated");
  const simulated = people.filter((person) => person.source === "simulated");
  const found = humans.filter(fits);
  replace($("#rows", main), found.length ? table(found, humanRow, true) : h("p", { class: "empty" }, t("people.nobody")));
  $("#shown", main).textContent = t("people.shown", { n: found.length });
  const box = $("#simulated", main);
  box.hidden = simulated.length === 0;
  $("summary", box).textContent = t("people.simulated", { n: simulated.length });
  replace($(".rows", box), table(simulated, simulatedRow, false));
  if (focus) $(`[data-focus="${CSS.escape(focus)}"]`, main)?.focus();
}

function fits(person) {
  const wanted = $("#find", main).value.trim().toLowerCase();
  return [person.name, person.role, t(`role.${person.role}`)].some((text) => text.toLowerCase().includes(wanted));
}

function table(rows, row, full) {
  const head = (key, kind) => h("th", { scope: "col", class: kind }, t(`people.${key}`));
  return h("table", { class: "stacking" },
    h("thead", {}, h("tr", {},
      head("name"), full ? [head("state"), head("role")] : "", head("picks", "n"), head("last_pick"),
      head("since", "since"), full ? head("tokens", "n") : "",
      h("th", { scope: "col" }, h("span", { class: "unseen" }, t("people.actions"))))),
    h("tbody", {}, rows.map(row)));
}

function humanRow(person) {
  return h("tr", { dataset: { name: person.name }, class: person.active ? "" : "off" },
    h("th", { scope: "row", class: "name" }, person.name, person.name === me.name ? h("small", {}, t("people.you")) : ""),
    h("td", { class: "state" }, state(person)),
    h("td", { class: "role" }, role(person)),
    figures(person),
    h("td", { class: "n tokens", dataset: { label: t("people.tokens") } }, number(person.tokens)),
    h("td", { class: "do" }, person.active ? button("link", person, () => askLink(person, refresh)) : "", toggle(person)));
}

function simulatedRow(person) {
  return h("tr", { dataset: { name: person.name }, class: person.active ? "" : "off" },
    h("th", { scope: "row", class: "name" }, person.name), figures(person), h("td", { class: "do" }, toggle(person)));
}

function figures(person) {
  const last = person.last_pick ? date(person.last_pick, DAY) : t("people.never");
  return [
    h("td", { class: "n picks", dataset: { label: t("people.picks") } }, number(person.picks)),
    h("td", { class: "when last", dataset: { label: t("people.last_pick") } }, last),
    h("td", { class: "when since", dataset: { label: t("people.since") } }, date(person.created, DAY)),
  ];
}

function state(person) {
  if (!person.active) return chip("disabled", "bad");
  if (person.has_password) return chip("active", "good");
  if (person.invited_until) return chip("invited", "blue", { date: date(person.invited_until, DAY) });
  return chip(person.local ? "local" : "no_password", "");
}

function chip(name, colour, values) {
  return h("span", { class: `chip ${colour}` }, t(`people.state.${name}`, values));
}

// --- what can be done ----------------------------------------------------------------------------

function role(person) {
  if (person.local || !person.active) return t(`role.${person.role}`);
  return h("select", {
    "aria-label": t("people.role_of", { name: person.name }),
    dataset: { focus: `role ${person.name}` },
    onchange: (event) => setRole(person, event.target.value),
  }, ROLES.map((each) => h("option", { value: each, selected: each === person.role }, t(`role.${each}`))));
}

async function setRole(person, chosen) {
  await attempt(async () => {
    await call("PATCH", path(person), { role: chosen }).finally(refresh);
  }, t("people.role_set", { name: person.name, role: t(`role.${chosen}`) }));
}

function toggle(person) {
  if (person.local || person.name === me.name) return "";
  if (person.active) return button("disable", person, () => askDisable(person, () => setActive(person, false)));
  return button("enable", person, () => setActive(person, true));
}

function setActive(person, active) {
  return attempt(async () => {
    await call("PATCH", path(person), { active });
    await refresh();
  }, t(active ? "people.enabled" : "people.disabled", { name: person.name }));
}

function button(name, person, onclick) {
  const words = { link: "people.link_for", disable: "people.disable_name", enable: "people.enable_name" }[name];
  const place = name === "link" ? "link" : "toggle"; // the focus stays when disable becomes enable
  return h("button", {
    class: "link", type: "button", onclick, dataset: { focus: `${place} ${person.name}` },
    "aria-label": t(words, { name: person.name }),
  }, t(`people.${name}`));
}

function path(person) {
  return `/users/${encodeURIComponent(person.name)}`;
}
