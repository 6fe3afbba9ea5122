// Forms of the researcher's pages: a label and one line of explanation for each field, the server's
// sentence where the hand is, and a guard for what is not saved yet.
import { sentence } from "./api.js";
import { h, replace } from "./dom.js";
import { t } from "./i18n.js";

const MANY = 12;

let serial = 0;
const nextId = (name) => `f-${name}-${(serial += 1)}`;

/** One labelled control. `unit` stands behind it; `hint` is read out with it. */
export function field(control, { label, hint, unit }) {
  const id = nextId(control.name);
  const hintId = `${id}-hint`;
  control.id = id;
  if (hint) control.setAttribute("aria-describedby", hintId);
  return h("div", { class: "field" },
    h("label", { for: id }, label),
    unit ? h("div", { class: "with-unit" }, control, h("span", {}, unit)) : control,
    hint ? h("p", { class: "hint", id: hintId }, hint) : "");
}

/** A group of controls under one legend. */
export function group(legend, hint, ...children) {
  const hintId = nextId("hint");
  return h("fieldset", { class: "field", "aria-describedby": hint ? hintId : null },
    h("legend", {}, legend), hint ? h("p", { class: "hint", id: hintId }, hint) : "", ...children);
}

/** A radio button or a checkbox with its words; `note` is a second, quieter line. */
export function choice(type, name, value, checked, words, note) {
  const id = nextId(name);
  const input = h("input", { type, name, value, "aria-labelledby": id, "aria-describedby": note ? `${id}-note` : null });
  input.checked = input.defaultChecked = checked;
  return h("label", { class: "choice" }, input,
    h("span", {}, h("span", { id }, words), note ? h("small", { id: `${id}-note` }, note) : ""));
}

/** A list of choices that scrolls, with a field to search it when it is long. */
export function ticks(choices) {
  const list = h("div", { class: "ticks" }, choices);
  if (choices.length <= MANY) return list;
  const find = h("input", { type: "search", autocomplete: "off", placeholder: t("pools.find"), "aria-label": t("pools.find"), dataset: { quiet: "" } });
  find.addEventListener("input", () => {
    const wanted = find.value.trim().toLowerCase();
    for (const each of choices) each.hidden = !each.textContent.toLowerCase().includes(wanted);
  });
  return [find, list];
}

export function select(name, options, value) {
  const made = h("select", { name }, ...options.map(([key, words]) => h("option", { value: key }, words)));
  for (const option of made.options) option.defaultSelected = option.value === value;
  made.value = value;
  return made;
}

export function ticked(form, name) {
  return [...form.querySelectorAll(`input[name="${name}"]:checked`)].map((input) => input.value);
}

/**
 * Wires a form: one request at a time, the server's sentence in the form's alert, focus on the field
 * that the sentence is about. `save` gets the form and returns a promise.
 */
export function onSave(form, save) {
  const problem = form.querySelector("[role=alert]");
  form.noValidate = true;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (form.ariaBusy === "true") return;
    say(form, problem, null, "");
    const bad = form.querySelector(":invalid:not(fieldset)");
    if (bad) return say(form, problem, bad, bad.dataset.problem || bad.validationMessage);
    form.ariaBusy = "true";
    try {
      await save(form);
    } catch (error) {
      say(form, problem, meant(form, error.message), sentence(error));
    } finally {
      form.ariaBusy = "false";
    }
  });
}

/** The control whose name the server's sentence holds, as in "The weight of a pool is above 0". */
function meant(form, message) {
  const words = (control) => control.name.replaceAll("_", " ");
  return [...form.elements].find((control) => control.name && new RegExp(`\\b${words(control)}`, "i").test(message));
}

function say(form, problem, control, words) {
  for (const old of form.querySelectorAll("[aria-invalid]")) old.removeAttribute("aria-invalid");
  const at = control instanceof Element && control.closest(".field");
  if (at && words) {
    control.setAttribute("aria-invalid", "true");
    control.focus();
    at.append(problem);
  } else form.querySelector(".form-end").prepend(problem);
  problem.textContent = words;
  problem.hidden = !words;
}

/** True when a control differs from what the page put into it. */
export function changed(form) {
  return [...form.elements].some((control) => {
    if (control.dataset.quiet !== undefined) return false;
    if (control.type === "checkbox" || control.type === "radio")
      return control.checked !== control.defaultChecked;
    if (control instanceof HTMLSelectElement)
      return [...control.options].some((option) => option.selected !== option.defaultSelected);
    return "defaultValue" in control && control.value !== control.defaultValue;
  });
}

const unsaved = () => [...document.querySelectorAll("form.guarded")].some((form) => changed(form));

/** Asks before unsaved changes are lost. Resolves to true when it is fine to go on. */
export async function mayLeave() {
  if (!unsaved()) return true;
  const stay = h("button", { class: "btn primary", type: "submit", value: "stay", autofocus: true }, t("pools.stay"));
  const leave = h("button", { class: "btn", type: "submit", value: "leave" }, t("pools.discard"));
  const dialog = h("dialog", { class: "ask", "aria-labelledby": "ask-title" },
    h("form", { method: "dialog" },
      h("h2", { id: "ask-title" }, t("pools.unsaved")),
      h("p", {}, t("pools.unsaved_hint")),
      h("div", { class: "form-end" }, stay, leave)));
  document.getElementById("shell-root").append(dialog);
  dialog.showModal();
  await new Promise((closed) => { dialog.addEventListener("close", closed, { once: true }); });
  dialog.remove();
  return dialog.returnValue === "leave";
}

addEventListener("beforeunload", (event) => { if (unsaved()) event.preventDefault(); });

/** A line that says what just happened, for the eye and for the screen reader. */
export function tell(words) {
  const status = document.getElementById("status");
  if (status) replace(status, words);
}
