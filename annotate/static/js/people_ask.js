// The dialogs of the People page: invite somebody, make a link, disable somebody.
import { call } from "./api.js";
import { $, h, replace } from "./dom.js";
import { choice, field, group, onSave, tell } from "./form.js";
import { date, t } from "./i18n.js";
import { secret } from "./secret.js";

const ROLES = ["annotator", "researcher", "admin"];
const DAYS = 7;

/** Asks for name, role and validity, makes the person, and shows the link. */
export function askInvite(refresh) {
  const name = h("input", { name: "name", required: true, maxlength: "64", autocomplete: "off", autocapitalize: "none", spellcheck: "false", dataset: { problem: t("people.name_missing") } });
  const roles = ROLES.map((role) => choice("radio", "role", role, role === "annotator", t(`role.${role}`), t(`people.role_hint.${role}`)));
  const form = linkForm(t("people.invite"), "",
    field(name, { label: t("people.name"), hint: t("people.name_hint") }), group(t("people.role"), null, roles), days());
  ask(form, ({ name: given, role, days: good }) => invite(given.value.trim(), { role: role.value, days: Number(good.value) }, refresh));
}

/** A new link for somebody who is known already. */
export function askLink(person, refresh) {
  const form = linkForm(t("people.link_for", { name: person.name }), t("people.reset_hint"), days());
  ask(form, ({ days: good }) => invite(person.name, { days: Number(good.value) }, refresh));
}

export function askDisable(person, disable) {
  const form = h("form", { method: "dialog" },
    h("h2", { id: "ask-title" }, t("people.disable_ask", { name: person.name })),
    h("p", {}, t("people.disable_hint")),
    h("div", { class: "form-end" },
      h("button", { class: "btn", value: "keep", autofocus: true }, t("people.keep")),
      h("button", { class: "btn danger", value: "disable" }, t("people.disable"))));
  const dialog = open(form);
  dialog.addEventListener("close", () => dialog.returnValue === "disable" && disable());
}

// --- parts ---------------------------------------------------------------------------------------

function days() {
  const input = h("input", { name: "days", type: "number", min: "1", max: "30", step: "1", required: true, value: String(DAYS), dataset: { problem: t("people.days_bad") } });
  return field(input, { label: t("people.days"), unit: t("people.days_unit") });
}

function linkForm(title, hint, ...fields) {
  return h("form", {},
    h("h2", { id: "ask-title" }, title), hint ? h("p", {}, hint) : "", fields,
    h("div", { class: "form-end" },
      h("p", { class: "notice", role: "alert", hidden: true }),
      h("button", { class: "btn", type: "button", onclick: () => opened().close() }, t("people.keep")),
      h("button", { class: "btn primary", type: "submit" }, t("people.make_link"))));
}

const opened = () => $("dialog.ask[open]");

/** Shows the form; what `make` gives takes its place in the dialog. */
function ask(asked, make) {
  const dialog = open(asked);
  onSave(asked, async () => replace(dialog, ...(await make(asked.elements))));
}

async function invite(name, body, refresh) {
  const { path, expires } = await call("POST", `/users/${encodeURIComponent(name)}/invite`, body);
  await refresh();
  const label = t("people.link_ready", { name });
  return [
    h("h2", { id: "ask-title" }, label),
    secret(label, location.origin + path, tell),
    h("p", {}, t("people.link_hint", { date: date(expires) })),
    h("div", { class: "form-end" }, h("button", { class: "btn primary", type: "button", onclick: () => opened().close() }, t("people.close"))),
  ];
}

function open(content) {
  const dialog = h("dialog", { class: "ask setup", "aria-labelledby": "ask-title" }, content);
  dialog.addEventListener("close", () => dialog.remove());
  $("#main").append(dialog);
  dialog.showModal();
  return dialog;
}
