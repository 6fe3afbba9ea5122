// "Say why": strength, reasons and a comment for the next pick. Closed until asked for; none is needed.

import { h } from "./dom.js";
import { has, t } from "./i18n.js";

const REASONS = { reasons: "details.reasons", skip_reasons: "details.skip_reasons", flag_reasons: "details.flag_reasons" };
const STRENGTHS = [1, 2, 3];
const DRAFT = "prefloop.details"; // survives a reload of the page

class Details {
  #panel = null;
  #desk = null;
  #pairId = null; // of the item that it was filled for
  #strengths = null; // the row that a set of four has no use for

  wire(desk) {
    this.#desk = desk;
  }

  /** Puts the panel where a mode wants it; strength says how much better one of two sides is. */
  place(where, withStrength) {
    this.#panel ??= this.#build();
    if (this.#panel.parentElement !== where) where.replaceChildren(this.#panel);
    this.#strengths.hidden = !withStrength;
    this.#expose();
  }

  toggle() {
    if (!this.#panel?.isConnected) return;
    this.#panel.hidden = !this.#panel.hidden;
    this.#expose();
    if (!this.#panel.hidden) this.#panel.querySelector("fieldset:not([hidden]) input")?.focus();
    else document.getElementById("details")?.focus();
  }

  /** What to send with a pick of this verdict. */
  values(verdict) {
    if (!this.#panel) return {};
    const group = verdict === "skip" ? "skip_reasons" : verdict === "flag" ? "flag_reasons" : "reasons";
    const strength = verdict === "left" || verdict === "right" ? this.#checked("strength")[0] : undefined;
    const comment = this.#comment.value.trim();
    return {
      strength: strength && Number(strength),
      reasons: this.#checked(group),
      comment: comment || undefined,
    };
  }

  /** For an item that comes: what a taken-back pick said, or what was typed here before a reload. */
  fill(item) {
    this.#panel ??= this.#build();
    this.#pairId = item.pair_id;
    const said = item.before ?? draftOf(item.pair_id) ?? {};
    this.#panel.reset();
    const group = { skip: "skip_reasons", flag: "flag_reasons" }[said.verdict] ?? "reasons";
    for (const reason of said.reasons ?? []) this.#check(group, reason);
    if (said.strength) this.#check("strength", said.strength);
    this.#comment.value = said.comment ?? "";
    if (said.reasons?.length || said.strength || said.comment) this.#panel.hidden = false;
    this.#expose();
  }

  clear() {
    this.#panel?.reset();
    if (this.#panel) this.#panel.hidden = true;
    sessionStorage.removeItem(DRAFT);
    this.#expose();
  }

  get #comment() {
    return this.#panel.elements.comment;
  }

  #checked(name) {
    return [...this.#panel.querySelectorAll(`[name="${name}"]:checked`)].map((input) => input.value);
  }

  #check(name, value) {
    const inputs = [...this.#panel.querySelectorAll(`[name="${name}"]`)];
    const input = inputs.find((each) => each.value === String(value));
    if (input) input.checked = true;
  }

  #expose() {
    document.getElementById("details")?.setAttribute("aria-expanded", String(!this.#panel.hidden));
  }

  #build() {
    const { settings } = this.#desk;
    this.#strengths = chips("details.strength", "radio", "strength", STRENGTHS.map((each) => [each, t(`details.strength.${each}`)]));
    const groups = Object.entries(REASONS).filter(([name]) => settings[name]?.length);
    const panel = h("form", { id: "details-panel", class: "card details", hidden: true, "aria-label": t("pick.details") },
      this.#strengths,
      groups.map(([name, label]) => chips(label, "checkbox", name, settings[name].map((reason) => [reason, reasonLabel(reason)]))),
      h("label", { class: "comment" }, h("span", { class: "legend" }, t("details.comment")),
        h("textarea", { name: "comment", rows: "1", maxlength: "4000", dir: "auto" })),
      h("p", { class: "sub" }, t("details.note")));
    panel.addEventListener("input", () => this.#keep());
    panel.addEventListener("pointerdown", (event) => event.target.checked && letGo(event.target));
    panel.addEventListener("submit", (event) => event.preventDefault());
    panel.addEventListener("keydown", (event) => this.#leave(event));
    return panel;
  }

  /** Escape closes the panel; Enter in the comment goes back to picking by key. */
  #leave(event) {
    if (event.isComposing) return;
    if (event.key === "Escape") this.toggle();
    else if (event.key === "Enter" && !event.shiftKey && event.target === this.#comment) document.getElementById("details")?.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #keep() {
    const said = { ...this.values("left"), pair_id: this.#pairId };
    try {
      sessionStorage.setItem(DRAFT, JSON.stringify(said));
    } catch {
      // without storage a reload loses a draft, never a pick
    }
  }
}

export const details = new Details();

/** A reason of the configuration in the reader's language, or as it was written there. */
export function reasonLabel(reason) {
  return has(`reason.${reason}`) ? t(`reason.${reason}`) : reason.replaceAll("_", " ");
}

/** A second click on a chosen strength takes it back, which a radio button does not do by itself. */
function letGo(input) {
  if (input.type === "radio") input.addEventListener("click", () => (input.checked = false), { once: true });
}

function draftOf(pairId) {
  try {
    const draft = JSON.parse(sessionStorage.getItem(DRAFT));
    return draft?.pair_id === pairId ? draft : null;
  } catch {
    return null;
  }
}

function chips(label, type, name, options) {
  return h("fieldset", { class: "chips" }, h("legend", { class: "legend" }, t(label)),
    options.map(([value, text]) => h("label", { class: "pick-chip" }, h("input", { type, name, value }), h("span", {}, text))));
}
