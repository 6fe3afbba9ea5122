// One setting of a run as a row: its name, what it does, a control with its unit, and a way back.
import { h } from "./dom.js";
import { has, retold, t } from "./i18n.js";

/** The help of a setting: that of its part where the catalogues tell parts apart. */
export function help(part, field) {
  const keys = [`train.setting.${part}.${field.name}`, `train.setting.${field.name}`];
  const key = keys.find(has);
  return key ? t(key) : field.help;
}

/** A value as one types it: 0.00002 -> 2e-5. */
export function written(value) {
  if (typeof value !== "number" || value === 0 || Math.abs(value) >= 1e-3) return String(value);
  return value.toExponential().replace("e+", "e");
}

/**
 * `key` names the setting in a request, `value` is what it stands at, `change(value)` hears what was
 * typed, undefined for the default.
 */
export function row(part, field, key, value, change) {
  const id = `set-${key.replace(".", "-")}`;
  const control = made(field, id, value ?? field.default);
  const back = h("button", { type: "button", class: "back-to", title: t("train.form.back_to", { value: written(field.default) }), "aria-label": t("train.form.back_to_of", { name: key, value: written(field.default) }) }, "↺");
  const words = help(part, field);
  const element = h("div", { class: "setting", dataset: { key } },
    h("div", { class: "name" }, h("label", { for: id, class: "mono" }, field.name), " ", unit(field)),
    h("div", { class: "control" }, back, control),
    h("p", { class: "hint", id: `${id}-help` }, words, " ", h("span", { class: "usual" }, t("train.form.default", { value: written(field.default) }))),
    h("p", { class: "problem", id: `${id}-problem`, hidden: true }));
  element.dataset.text = `${key} ${words} ${field.help} ${t(`train.group.${field.group}`)} ${field.choices.join(" ")}`.toLowerCase();
  const mark = () => {
    const differs = String(read(field, control)) !== String(field.default);
    element.classList.toggle("changed", differs);
    change(differs ? read(field, control) : undefined);
  };
  control.addEventListener(control.type === "checkbox" || control.tagName === "SELECT" ? "change" : "input", mark);
  back.addEventListener("click", () => {
    put(control, field.default);
    mark();
    control.focus();
  });
  element.classList.toggle("changed", value !== undefined);
  return element;
}

function made(field, id, value) {
  const about = { id, name: id, "aria-describedby": `${id}-help` };
  if (field.choices.length) {
    const select = h("select", about, field.choices.map((choice) => h("option", { value: choice }, choice)));
    select.value = value;
    return select;
  }
  if (field.type === "bool") {
    const box = h("input", { ...about, type: "checkbox", role: "switch" });
    box.checked = value;
    return box;
  }
  const numeric = field.type !== "str";
  return h("input", { ...about, type: "text", value: written(value), inputmode: numeric ? "decimal" : null, class: numeric ? "short" : "", autocomplete: "off", spellcheck: "false" });
}

/** What is typed, as the type of the setting; a text that is no number stays one, for the server to refuse. */
function read(field, control) {
  if (control.type === "checkbox") return control.checked;
  const text = control.value.trim();
  const number = Number(text);
  return field.type === "int" || field.type === "float" ? (text !== "" && Number.isFinite(number) ? number : text) : text;
}

function put(control, value) {
  if (control.type === "checkbox") control.checked = value;
  else control.value = control.tagName === "SELECT" ? value : written(value);
}

function unit(field) {
  if (!field.unit) return null;
  const key = `train.unit.${field.unit}`;
  return h("span", { class: "unit" }, has(key) ? t(key) : field.unit);
}

/** Shows the server's sentence at the setting that it names; false when it names none on the screen. */
export function blame(form, message) {
  for (const old of form.querySelectorAll(".setting .problem")) old.hidden = true;
  for (const old of form.querySelectorAll("[aria-invalid]")) old.removeAttribute("aria-invalid");
  const name = message?.match(/^([a-z]+\.)?(\w+)\b/)?.[0];
  const at = name && form.querySelector(`.setting[data-key="${CSS.escape(name)}"], .setting.changed[data-key$=".${CSS.escape(name)}"]`);
  if (!at) return false;
  const problem = at.querySelector(".problem");
  problem.textContent = retold("train.refused", message);
  problem.hidden = false;
  at.querySelector("input, select").setAttribute("aria-invalid", "true");
  return true;
}
