// Pools: which prompts are asked, how they are judged, and by whom.
import { call } from "./api.js";
import { h, replace } from "./dom.js";
import { choice, field, group, mayLeave, onSave, select, tell, ticked, ticks } from "./form.js";
import { number, t } from "./i18n.js";

const MODES = ["pair", "best_worst", "conversation"];
const LANGUAGES = ["en", "zh-CN"];
const NEW = { name: "", mode: "pair", tags: [], language: null, weight: 1, annotators: [], overlap_share: null, overlap_annotators: null, turns: 4, active: true };

let box;
let known; // what GET /pools said last

export async function show(section) {
  box = section;
  known = await call("GET", "/pools");
  draw(null);
}

function draw(pool) {
  replace(box,
    h("div", { class: pool ? "list-and-form editing" : "list-and-form" }, list(pool), pool ? form(pool) : advice()));
}

async function open(pool) {
  if (!(await mayLeave())) return;
  draw(pool);
  box.querySelector("form input[name=name]").focus();
}

async function close() {
  if (!(await mayLeave())) return;
  draw(null);
  box.querySelector("#new-pool").focus();
}

// --- the list ------------------------------------------------------------------------------------

function list(chosen) {
  return h("div", { class: "card list" },
    h("div", { class: "head-line" },
      h("h1", {}, t("pools.title")),
      h("button", { class: "btn primary", id: "new-pool", type: "button", onclick: () => open(NEW) }, t("pools.new"))),
    h("p", { class: "sub" }, t("pools.what")),
    h("table", { class: "stacking" },
      h("thead", {}, h("tr", {},
        h("th", { scope: "col" }, t("pools.name")), h("th", { scope: "col" }, t("pools.holds")),
        h("th", { scope: "col" }, t("pools.people")),
        h("th", { scope: "col", class: "n" }, t("pools.prompts")), h("th", { scope: "col", class: "n" }, t("pools.ready")),
        h("th", { scope: "col", class: "n" }, t("pools.weight")))),
      h("tbody", {}, ...known.pools.map((pool) => row(pool, chosen)))),
    h("p", { class: "sub foot-note" }, t("pools.ready_what")));
}

function row(pool, chosen) {
  const here = chosen?.pool_id === pool.pool_id;
  return h("tr", { class: here ? "here" : "", dataset: { pool: pool.pool_id } },
    h("td", { class: "name" },
      h("button", { class: "link", type: "button", "aria-pressed": String(here), onclick: () => open(pool) }, pool.name),
      h("small", {}, t(`pools.mode.${pool.mode}`)),
      pool.active ? "" : h("span", { class: "chip" }, t("pools.inactive"))),
    h("td", { class: "holds", dataset: { label: t("pools.holds") } }, pool.tags.length ? pool.tags.join(", ") : t("pools.untagged")),
    h("td", { class: "people", dataset: { label: t("pools.people") } }, pool.annotators.length ? pool.annotators.join(", ") : t("pools.everyone")),
    h("td", { class: "n", dataset: { label: t("pools.prompts") } }, number(pool.prompts)),
    h("td", { class: "n", dataset: { label: t("pools.ready") } }, number(pool.ready)),
    h("td", { class: "n", dataset: { label: t("pools.weight") } }, number(pool.weight), pool.active && h("small", {}, t("pools.share_now", { share: shareOf(pool) }))));
}

/** Per cent of the pairs sampled, as the active pools stand. */
function shareOf(pool) {
  const sum = known.pools.reduce((total, each) => total + (each.active ? each.weight : 0), 0);
  return Math.round((100 * pool.weight) / sum);
}

function advice() {
  const entries = ["pair", "best_worst", "conversation"].map((mode) => [
    h("dt", {}, t(`pools.mode.${mode}`)), h("dd", {}, t(`pools.mode.${mode}_hint`))]).flat();
  return h("aside", { class: "card advice" },
    h("h2", {}, t("pools.holding")), h("p", { class: "sub" }, t("pools.holding_what")),
    h("h2", {}, t("pools.modes")), h("dl", {}, ...entries),
    h("h2", {}, t("pools.overlap")), h("p", { class: "sub" }, t("pools.overlap_what", standard())));
}

const standard = () => ({ share: number(100 * known.overlap.share), annotators: number(known.overlap.annotators) });

// --- the form ------------------------------------------------------------------------------------

function form(pool) {
  const isNew = !pool.pool_id;
  const made = h("form", { class: "card side guarded", "aria-labelledby": "pool-form-title" },
    h("div", { class: "head-line" },
      h("h2", { id: "pool-form-title" }, isNew ? t("pools.new") : pool.name),
      h("button", { class: "btn quiet", type: "button", onclick: close }, t("pools.close"))),
    field(h("input", { name: "name", value: pool.name, required: true, maxlength: "64", autocomplete: "off", dataset: { problem: t("pools.name_missing") } }), { label: t("pools.name") }),
    modes(pool),
    turns(pool),
    tags(pool),
    language(pool),
    people(pool),
    field(h("input", { name: "weight", type: "number", min: "0.01", max: "1000", step: "any", required: true, value: String(pool.weight), dataset: { problem: t("pools.weight_bad") } }),
      { label: t("pools.weight"), hint: t("pools.weight_hint") }),
    overlap(pool),
    choice("checkbox", "active", "yes", pool.active, t("pools.active"), t("pools.active_hint")),
    h("div", { class: "form-end" },
      h("p", { class: "notice", role: "alert", hidden: true }),
      h("button", { class: "btn primary", type: "submit" }, isNew ? t("pools.make") : t("pools.save"))));
  const showTurns = () => {
    const talks = made.elements.mode.value === "conversation";
    made.querySelector(".turns").hidden = !talks;
    made.elements.turns.disabled = !talks; // so that what is hidden is not checked
  };
  made.addEventListener("change", showTurns);
  showTurns();
  onSave(made, () => save(pool, made));
  return made;
}

function modes(pool) {
  return group(t("pools.mode"), null, ...MODES.map((mode) =>
    choice("radio", "mode", mode, pool.mode === mode, t(`pools.mode.${mode}`), t(`pools.mode.${mode}_hint`))));
}

function turns(pool) {
  const input = h("input", { name: "turns", type: "number", min: "1", max: "50", step: "1", required: true, value: String(pool.turns), dataset: { problem: t("pools.turns_bad") } });
  const made = field(input, { label: t("pools.turns"), hint: t("pools.turns_hint"), unit: t("pools.turns_unit") });
  made.classList.add("turns");
  return made;
}

function tags(pool) {
  const sizes = new Map(known.tags.map(({ tag, prompts }) => [tag, prompts]));
  for (const tag of pool.tags) if (!sizes.has(tag)) sizes.set(tag, 0);
  const boxes = [...sizes].map(([tag, prompts]) =>
    choice("checkbox", "tags", tag, pool.tags.includes(tag), tag, t("pools.tag_prompts", { n: prompts })));
  const more = field(h("input", { name: "more_tags", autocomplete: "off" }), { label: t("pools.more_tags"), hint: t("pools.more_tags_hint") });
  return group(t("pools.tags"), t("pools.tags_hint"), ticks(boxes), more);
}

function language(pool) {
  const codes = [...new Set([...LANGUAGES, ...known.languages, ...(pool.language ? [pool.language] : [])])];
  const named = codes.map((code) => [code, languageName(code)]);
  return field(select("language", [["", t("pools.language_any")], ...named], pool.language || ""),
    { label: t("pools.language"), hint: t("pools.language_hint") });
}

function people(pool) {
  const names = [...new Set([...known.people, ...pool.annotators])];
  return group(t("pools.people"), t("pools.people_hint"),
    ticks(names.map((name) => choice("checkbox", "annotators", name, pool.annotators.includes(name), name))));
}

function overlap(pool) {
  const share = h("input", { name: "overlap_share", type: "number", min: "0", max: "100", step: "any", placeholder: t("pools.standard", { n: standard().share }),
    value: pool.overlap_share === null ? "" : String(+(100 * pool.overlap_share).toFixed(4)), dataset: { problem: t("pools.share_bad") } });
  const count = h("input", { name: "overlap_annotators", type: "number", min: "1", max: "100", step: "1", placeholder: t("pools.standard", { n: standard().annotators }),
    value: pool.overlap_annotators === null ? "" : String(pool.overlap_annotators), dataset: { problem: t("pools.judges_bad") } });
  return group(t("pools.overlap"), t("pools.overlap_hint", standard()),
    h("div", { class: "pair-of-fields" },
      field(share, { label: t("pools.share"), unit: "%" }),
      field(count, { label: t("pools.judges"), unit: t("pools.judges_unit") })));
}

function languageName(code) {
  try {
    return new Intl.DisplayNames(document.documentElement.lang, { type: "language" }).of(code);
  } catch {
    return code; // well formed for the server, unknown to the browser
  }
}

const given = (input) => (input.value.trim() === "" ? null : Number(input.value));

async function save(pool, made) {
  const { elements } = made;
  const more = elements.more_tags.value.split(/[,，]/).map((tag) => tag.trim()).filter(Boolean);
  const share = given(elements.overlap_share);
  const body = {
    name: elements.name.value.trim(),
    mode: elements.mode.value,
    turns: elements.turns.disabled ? pool.turns : given(elements.turns),
    tags: [...new Set([...ticked(made, "tags"), ...more])],
    language: elements.language.value || null,
    annotators: ticked(made, "annotators"),
    weight: given(elements.weight),
    overlap_share: share === null ? null : share / 100,
    overlap_annotators: given(elements.overlap_annotators),
    active: elements.active.checked,
  };
  const saved = pool.pool_id
    ? await call("PATCH", `/pools/${pool.pool_id}`, changes(pool, body))
    : await call("POST", "/pools", body);
  known = await call("GET", "/pools");
  draw(null);
  tell(t(pool.pool_id ? "pools.saved" : "pools.made", { name: saved.name }));
  box.querySelector(`tr[data-pool="${CSS.escape(saved.pool_id)}"] button`)?.focus();
}

/** What differs, so that what somebody else changed meanwhile stays. */
function changes(pool, body) {
  const same = (key) => JSON.stringify(pool[key]) === JSON.stringify(body[key]);
  return Object.fromEntries(Object.entries(body).filter(([key]) => !same(key)));
}
