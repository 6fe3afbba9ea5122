// Start a run: a form made from the typed settings, and beside it what the run would do.
import { call, sentence } from "./api.js";
import { $, h, replace } from "./dom.js";
import { number, t } from "./i18n.js";
import { blame, row } from "./train_fields.js";
import { Preview } from "./train_preview.js";
import { KINDS, kindName } from "./train_words.js";

const drafts = new Map(); // kind -> {key: value}: what was changed, also while other runs are looked at
const TYPING_MS = 250;
const AGAIN_MS = 3000; // after an answer that did not come
const FRESH_MS = 20_000; // picks come in while the form stands open

export class StartForm {
  #serial = 0;
  #askedAt = 0;
  #typing = 0;

  /** `started(runId)` runs once the server has queued the run. */
  constructor(started) {
    this.started = started;
    this.fields = h("div", { class: "fields" });
    this.preview = new Preview(() => this.#start());
    this.kinds = h("div", { class: "kinds", role: "radiogroup", "aria-label": t("train.form.kind") }, KINDS.map((kind) => h("label", {},
      h("input", { type: "radio", name: "kind", value: kind, onchange: () => location.replace(`#new/${kind}`) }), h("span", {}, kindName(kind)))));
    this.what = h("p", { class: "sub what" });
    this.search = h("input", { type: "search", id: "search-settings", autocomplete: "off", placeholder: t("train.form.search"), "aria-label": t("train.form.search") });
    this.only = h("input", { type: "checkbox", id: "only-changed" });
    this.count = h("span", { class: "count" });
    this.none = h("p", { class: "sub empty", hidden: true }, t("train.form.nothing"));
    this.search.addEventListener("input", () => this.#sift());
    this.only.addEventListener("change", () => this.#sift());
    this.fitted = h("p", { class: "sub" });
    this.head = h("div", { class: "card new-head" },
      h("div", { class: "row" }, h("h2", { id: "new-title", tabindex: "-1" }, t("train.new")), h("a", { class: "end back-to-runs", href: "#" }, t("train.form.close"))),
      this.kinds, this.what);
    this.form = h("form", { class: "card settings-form", "aria-label": t("train.config.settings") },
      h("div", {}, h("h2", {}, t("train.config.settings")), this.fitted),
      h("div", { class: "tools" }, this.search,
        h("label", { class: "tick", for: "only-changed" }, this.only, h("span", {}, t("train.form.only_changed"), " ", this.count)),
        h("button", { type: "button", class: "btn small", id: "reset-all", onclick: () => this.#reset() }, t("train.form.reset"))),
      this.fields, this.none);
    this.form.addEventListener("submit", (event) => event.preventDefault()); // Enter in a field starts nothing
    this.element = h("div", { class: "new-run" }, this.head, this.preview.element, this.form);
  }

  get draft() {
    if (!drafts.has(this.kind)) drafts.set(this.kind, {});
    return drafts.get(this.kind);
  }

  /** Settings to begin with, in place of what was changed before. */
  take(kind, settings) {
    drafts.set(kind, { ...settings });
    this.kind = this.parts = null; // to be drawn anew
  }

  show(kind) {
    if (this.kind === kind) {
      if (this.parts && performance.now() - this.#askedAt > FRESH_MS) this.#ask(true);
      return;
    }
    this.kind = kind;
    this.parts = null;
    for (const input of this.kinds.querySelectorAll("input")) input.checked = input.value === kind;
    replace(this.what, t(`train.what.${kind}`));
    this.preview.hold(); // what stands there is the plan of another kind
    this.#load();
  }

  async #load() {
    clearTimeout(this.#typing);
    const serial = (this.#serial += 1);
    try {
      const { parts, fitted_to: { base, parameters, rows } } = await call("GET", `/runs/settings/${this.kind}`);
      if (serial !== this.#serial) return;
      this.parts = parts;
      const size = number(parameters, { notation: "compact", maximumSignificantDigits: 2 });
      replace(this.fitted, t("train.form.fitted", { base, size, n: rows }));
      const at = document.activeElement?.closest(".setting input, .setting select")?.id;
      this.#draw();
      if (at) document.getElementById(at)?.focus();
    } catch (error) {
      if (serial !== this.#serial) return;
      if (!this.parts) replace(this.fields, h("p", { class: "notice", role: "alert" }, sentence(error)));
      this.#typing = setTimeout(() => this.#load(), AGAIN_MS);
    }
  }

  /** Whether the presets have moved since the form was drawn, with the picks that came in. */
  #moved(told) {
    return told.parts.some(({ preset }, n) => this.parts[n].fields.some((field) => String(preset[field.name]) !== String(field.default)));
  }

  #draw() {
    replace(this.fields, this.parts.map(({ part, fields }) => [
      this.parts.length > 1 && h("h3", {}, kindName(part)),
      [...Map.groupBy(fields, (field) => field.group)].map(([group, those]) =>
        h("fieldset", { class: "group" }, h("legend", {}, t(`train.group.${group}`)),
          h("div", { class: "settings-grid" }, those.map((field) => this.#row(part, field)))))]));
    this.#sift();
    this.#ask();
  }

  #row(part, field) {
    const key = this.kind === "round" ? `${part}.${field.name}` : field.name;
    return row(part, field, key, this.draft[key], (value) => {
      if (value === undefined) delete this.draft[key];
      else this.draft[key] = value;
      this.#count();
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.#ask(), TYPING_MS);
    });
  }

  #count() {
    const n = Object.keys(this.draft).length;
    replace(this.count, n ? String(n) : "");
    $("#reset-all", this.form).disabled = n === 0;
  }

  /** Only the settings that the search finds; a group without any of them goes too. */
  #sift() {
    this.#count();
    const words = this.search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    for (const each of this.fields.querySelectorAll(".setting"))
      each.hidden = !words.every((word) => each.dataset.text.includes(word)) || (this.only.checked && !each.classList.contains("changed"));
    for (const group of this.fields.querySelectorAll(".group")) group.hidden = !group.querySelector(".setting:not([hidden])");
    for (const title of this.fields.querySelectorAll("h3")) title.hidden = !title.nextElementSibling || nextGroups(title).every((group) => group.hidden);
    this.none.hidden = Boolean(this.fields.querySelector(".setting:not([hidden])"));
  }

  #reset() {
    drafts.set(this.kind, {});
    this.#draw();
    this.search.focus();
  }

  /** `quiet`: nobody waits for it. */
  async #ask(quiet = false) {
    const serial = (this.#serial += 1);
    this.#askedAt = performance.now();
    if (!quiet) this.preview.wait();
    try {
      const told = await call("POST", "/runs/preview", { kind: this.kind, set: this.draft });
      if (serial !== this.#serial) return;
      if (this.#moved(told)) return this.#load();
      blame(this.form, null);
      this.preview.show(told);
    } catch (error) {
      if (serial !== this.#serial) return;
      this.preview.refuse(blame(this.form, error.message) ? t("train.form.look") : sentence(error));
      if (error.passing) this.#typing = setTimeout(() => this.#ask(), AGAIN_MS);
    }
  }

  async #start() {
    this.preview.wait();
    this.preview.button.disabled = true; // a second click would start a second run
    this.#askedAt = performance.now(); // nor may a plan that comes now enable it
    try {
      const { run_id: id } = await call("POST", "/runs", { kind: this.kind, set: this.draft });
      this.started(id);
      this.#ask();
    } catch (error) {
      this.preview.failed(sentence(error));
    }
  }
}

function nextGroups(title) {
  const found = [];
  for (let next = title.nextElementSibling; next && next.tagName !== "H3"; next = next.nextElementSibling) found.push(next);
  return found;
}
