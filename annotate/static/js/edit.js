// "Edit the better one": the annotator's own version of a side, stored with a pick of that side. What is
// typed is kept with its pair until a pick of that pair is stored.

import { ApiError, sentence } from "./api.js";
import { $, h } from "./dom.js";
import { t } from "./i18n.js";
import { modal } from "./modal.js";
import { aids } from "./reading.js";

const SIDES = ["left", "right"];
const LONGEST = 20_000; // characters that the server takes
const DRAFT = "prefloop.edit."; // and the id of the pair; survives a reload of the page

class Edit {
  #dialog = null;
  #desk = null;
  #pairId = null; // of what is edited
  #original = "";

  async open(desk) {
    if (desk.busy || !desk.item?.pair_id || aids.panes.length !== 2) return;
    this.#desk = desk;
    this.#pairId = desk.item.pair_id;
    this.#dialog ??= this.#build();
    const before = desk.item.before?.edited_text ? { side: desk.item.before.verdict, text: desk.item.before.edited_text } : null;
    const kept = draftOf(this.#pairId) ?? before;
    this.#form.side.value = kept?.side ?? "left";
    this.#form.save.disabled = false;
    this.#dialog.showModal();
    await this.#take();
    if (kept) this.#form.text.value = kept.text;
    this.#form.text.focus();
  }

  get #form() {
    return $("form", this.#dialog).elements;
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

  /** Closes only once the pick is stored: whoever is refused still has the text. */
  async #save() {
    if (this.#form.save.disabled) return;
    const [side, text] = [this.#form.side.value, this.#form.text.value];
    const problem = this.#problem(text);
    if (problem) return this.#say(problem);
    this.#form.save.disabled = true;
    this.#say(t("edit.saving"));
    const stored = this.#open && (await this.#desk.pick({ verdict: side, edited_text: text }));
    if (stored) return this.#dialog.close();
    this.#say(this.#open ? this.#desk.said : t("edit.over"));
    this.#form.save.disabled = !this.#open;
  }

  /** What keeps this text from being sent; "" when nothing does. */
  #problem(text) {
    const n = [...text].length; // as the server counts
    if (text === this.#original) return t("edit.unchanged");
    if (!text.trim()) return t("edit.empty");
    return n > LONGEST ? t("edit.long", { n, most: LONGEST }) : "";
  }

  /** Whether the pair is still the one on the screen; another tab may have picked meanwhile. */
  get #open() {
    return this.#desk.item?.pair_id === this.#pairId;
  }

  #say(text) {
    $(".problem", this.#dialog).textContent = text;
  }

  #keep() {
    try {
      sessionStorage.setItem(DRAFT + this.#pairId, JSON.stringify({ side: this.#form.side.value, text: this.#form.text.value }));
    } catch {
      // without storage a reload loses a draft, never a pick
    }
  }

  #build() {
    const sides = SIDES.map((side) => h("label", {},
      h("input", { type: "radio", name: "side", value: side, onchange: () => this.#take() }), h("span", {}, t(`pane.${side}`))));
    return modal("edit-dialog", t("edit.title"),
      h("form", { onsubmit: (event) => (event.preventDefault(), this.#save()), onkeydown: (event) => this.#shortcut(event) },
        h("fieldset", { class: "choice" }, h("legend", {}, t("edit.side")), h("div", { class: "segments" }, sides)),
        h("textarea", { name: "text", rows: "14", dir: "auto", "aria-label": t("edit.text"), oninput: () => this.#keep() }),
        h("p", { class: "problem", role: "alert" }),
        h("div", { class: "row end" },
          h("button", { type: "button", class: "btn quiet", onclick: () => this.#dialog.close() }, t("edit.cancel")),
          h("button", { name: "save", class: "btn primary", "aria-keyshortcuts": "Control+Enter" }, t("edit.save"), h("kbd", { "aria-hidden": "true" }, "Ctrl + ⏎")))));
  }

  #shortcut(event) {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
    event.preventDefault();
    if (!event.repeat) this.#save();
  }
}

export const edit = new Edit();

/** What was typed for this pair is stored, or no longer wanted. */
export const forgetDraft = (pairId) => sessionStorage.removeItem(DRAFT + pairId);

/** {side, text} or null. */
function draftOf(pairId) {
  try {
    return JSON.parse(sessionStorage.getItem(DRAFT + pairId));
  } catch {
    return null;
  }
}
