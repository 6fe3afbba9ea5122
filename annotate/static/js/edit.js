// "Edit the better one": the annotator's own version of a side, stored with a pick of that side.

import { ApiError, sentence } from "./api.js";
import { $, h } from "./dom.js";
import { t } from "./i18n.js";
import { aids } from "./reading.js";
import { modal } from "./modal.js";

const SIDES = ["left", "right"];

class Edit {
  #dialog = null;
  #desk = null;
  #original = "";

  async open(desk) {
    if (desk.busy || !desk.item?.pair_id || aids.panes.length !== 2) return;
    this.#desk = desk;
    this.#dialog ??= this.#build();
    const before = desk.item.before?.edited_text ? desk.item.before : null;
    this.#form.side.value = before?.verdict ?? "left";
    this.#dialog.showModal();
    await this.#take();
    if (before) this.#form.text.value = before.edited_text;
    this.#form.text.focus();
  }

  get #form() {
    return $("form", this.#dialog);
  }

  /** The text of the chosen side, whole and exact, into the field. */
  async #take() {
    const side = this.#form.side.value;
    this.#form.text.disabled = true;
    try {
      this.#original = await aids.panes[SIDES.indexOf(side)].exactText();
      this.#form.text.value = this.#original;
      this.#form.text.disabled = false;
      this.#say("");
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.#say(sentence(error)); // only a long text is fetched; choosing the side again tries again
    }
  }

  #save() {
    const text = this.#form.text.value;
    if (text === this.#original) return this.#say(t("edit.unchanged"));
    if (!text.trim()) return this.#say(t("edit.empty"));
    this.#dialog.close();
    this.#desk.pick({ verdict: this.#form.side.value, edited_text: text });
  }

  #say(text) {
    $(".problem", this.#dialog).textContent = text;
  }

  #build() {
    const sides = SIDES.map((side) => h("label", {},
      h("input", { type: "radio", name: "side", value: side, onchange: () => this.#take() }), h("span", {}, t(`pane.${side}`))));
    return modal("edit-dialog", t("edit.title"),
      h("form", { onsubmit: (event) => (event.preventDefault(), this.#save()), onkeydown: (event) => this.#shortcut(event) },
        h("fieldset", { class: "choice" }, h("legend", {}, t("edit.side")), h("div", { class: "segments" }, sides)),
        h("textarea", { name: "text", rows: "14", dir: "auto", "aria-label": t("edit.text") }),
        h("p", { class: "problem", role: "alert" }),
        h("div", { class: "row end" },
          h("button", { type: "button", class: "btn quiet", onclick: () => this.#dialog.close() }, t("edit.cancel")),
          h("button", { class: "btn primary", "aria-keyshortcuts": "Control+Enter" }, t("edit.save"), h("kbd", { "aria-hidden": "true" }, "Ctrl + ⏎")))));
  }

  #shortcut(event) {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
    event.preventDefault();
    this.#save();
  }
}

export const edit = new Edit();
