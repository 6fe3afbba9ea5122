// Practice: pairs with a known answer and an explanation, shown before the first real pick.
import { call, sentence } from "./api.js";
import { h, replace } from "./dom.js";
import { choice, field, group, mayLeave, onSave, tell } from "./form.js";
import { t } from "./i18n.js";

const VERDICTS = ["left", "right", "tie", "both_bad"];
const NEW = { messages: [{ role: "user", content: "" }], left_text: "", right_text: "", verdict: "left", explanation: "" };

let box;
let items;

const prompt = ({ messages }) => messages.at(-1).content;

export async function show(section) {
  box = section;
  await look();
  draw(null);
}

async function look() {
  items = (await call("GET", "/practice")).items;
}

function draw(item) {
  replace(box, h("div", { class: item ? "list-and-form editing" : "list-alone" }, list(item), item ? form(item) : ""));
}

async function open(item) {
  if (!(await mayLeave())) return;
  draw(item);
  box.querySelector("form textarea").focus();
}

async function close() {
  if (!(await mayLeave())) return;
  draw(null);
  box.querySelector("#new-practice").focus();
}

// --- the list ------------------------------------------------------------------------------------

function list(chosen) {
  const active = items.filter((item) => item.active);
  const removed = items.filter((item) => !item.active);
  return h("div", { class: "card list" },
    h("div", { class: "head-line" }, h("h1", { tabindex: "-1" }, t("guidance.practice")),
      h("button", { class: "btn primary", id: "new-practice", type: "button", onclick: () => open(NEW) }, t("guidance.practice_new"))),
    h("p", { class: "sub" }, t("guidance.practice_what")),
    active.length
      ? h("ol", { class: "practice" }, active.map((item, place) => row(item, chosen, [move(active, place, -1), move(active, place, 1)])))
      : h("p", { class: "empty" }, t("guidance.practice_none")),
    removed.length > 0 && h("details", {}, h("summary", {}, t("guidance.removed", { n: removed.length })),
      h("ul", { class: "practice" }, removed.map((item) => row(item, chosen, [putBack(item)])))));
}

function row(item, chosen, tools) {
  const here = chosen?.practice_id === item.practice_id;
  const said = [t(`guidance.verdict.${item.verdict}`)];
  if (item.answered) said.push(t("guidance.answered", { n: item.answered, right: Math.round((100 * item.correct) / item.answered) }));
  return h("li", { class: here ? "here" : "", dataset: { item: item.practice_id } },
    h("div", { class: "what" },
      h("button", { class: "link", type: "button", "aria-pressed": String(here), onclick: () => open(item) }, h("span", {}, prompt(item))),
      h("small", {}, said.join(" · "))),
    h("div", { class: "order" }, tools));
}

function move(active, place, by) {
  const there = place + by;
  const words = t(by < 0 ? "guidance.up" : "guidance.down", { n: place + 1 });
  return h("button", { class: "btn icon", type: "button", "aria-label": words, title: words, disabled: there < 0 || there >= active.length,
    onclick: () => attempt(async () => {
      const ids = active.map((item) => item.practice_id);
      [ids[place], ids[there]] = [ids[there], ids[place]];
      await call("POST", "/practice/order", { practice_ids: ids });
      await again(t("guidance.moved", { n: there + 1 }));
      const tools = [...box.querySelector(at(active[place])).querySelectorAll(".order button:enabled")];
      tools.at(by < 0 ? 0 : -1).focus();
    }) }, by < 0 ? "↑" : "↓");
}

function putBack(item) {
  return h("button", { class: "btn", type: "button", "aria-label": t("guidance.put_back_item", { prompt: prompt(item) }),
    onclick: () => attempt(async () => {
      await call("PATCH", `/practice/${item.practice_id}`, { active: true });
      await again(t("guidance.practice_back"));
      box.querySelector(`${at(item)} button`).focus();
    }) }, t("guidance.put_back"));
}

const at = (item) => `li[data-item="${CSS.escape(item.practice_id)}"]`;

async function again(words) {
  await look();
  draw(null);
  tell(words);
}

async function attempt(work) {
  try {
    if (await mayLeave()) await work();
  } catch (error) {
    tell(sentence(error));
  }
}

// --- the form ------------------------------------------------------------------------------------

function area(name, rows, value, problem) {
  const made = h("textarea", { name, rows: String(rows), required: true, dataset: { problem } });
  made.value = made.defaultValue = value;
  return made;
}

function form(item) {
  const isNew = !item.practice_id;
  const made = h("form", { class: "card side guarded", "aria-labelledby": "practice-title" },
    h("div", { class: "head-line" }, h("h2", { id: "practice-title" }, t(isNew ? "guidance.practice_new" : "guidance.practice_edit")),
      h("button", { class: "btn quiet", type: "button", onclick: close }, t("pools.close"))),
    field(area("prompt", 2, prompt(item), t("guidance.prompt_missing")), { label: t("guidance.prompt") }),
    field(area("left_text", 4, item.left_text, t("guidance.answer_missing")), { label: t("guidance.left") }),
    field(area("right_text", 4, item.right_text, t("guidance.answer_missing")), { label: t("guidance.right") }),
    group(t("guidance.expected"), null, h("div", { class: "choices-line" },
      ...VERDICTS.map((verdict) => choice("radio", "verdict", verdict, item.verdict === verdict, t(`guidance.verdict.${verdict}`))))),
    field(area("explanation", 3, item.explanation, t("guidance.explanation_missing")), { label: t("guidance.explanation"), hint: t("guidance.explanation_hint") }),
    h("div", { class: "form-end" },
      h("p", { class: "notice", role: "alert", hidden: true }),
      h("button", { class: "btn primary", type: "submit" }, t(isNew ? "guidance.practice_add" : "pools.save")),
      item.active && h("button", { class: "btn danger", type: "button", onclick: () => remove(item) }, t("guidance.practice_remove"))));
  onSave(made, () => save(item, made.elements));
  return made;
}

async function save(item, elements) {
  const messages = [...item.messages.slice(0, -1), { role: "user", content: elements.prompt.value }];
  const body = { messages };
  for (const name of ["left_text", "right_text", "verdict", "explanation"]) body[name] = elements[name].value;
  const saved = item.practice_id
    ? await call("PATCH", `/practice/${item.practice_id}`, body)
    : await call("POST", "/practice", body);
  await again(t("guidance.practice_saved"));
  box.querySelector(`${at(saved)} button`)?.focus();
}

function remove(item) {
  return attempt(async () => {
    await call("DELETE", `/practice/${item.practice_id}`);
    await again(t("guidance.practice_removed"));
    box.querySelector("#new-practice").focus();
  });
}
