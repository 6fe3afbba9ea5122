// Every key that does something now, as a dialog.

import { h, replace } from "./dom.js";
import { t } from "./i18n.js";
import { modal } from "./modal.js";
import * as prefs from "./prefs.js";
import { aids } from "./reading.js";

const SHARED = [
  ["U", "pick.undo"], ["W", "pick.details"], ["D", "aids.differences"], ["X", "aids.exact"], ["A", "aids.unfold"],
  ["G", "nav.guidelines"], ["?", "pick.help"],
];

class Help {
  #dialog = null;
  #list = h("dl", { class: "keys" });
  #note = h("p", { class: "sub" });
  #mode = () => ({});
  #practise = () => {};

  /**
   * `mode()` gives the mode on the stage, whose `legend` and `idle` desk.js explains; `practise()`
   * starts the practice round again.
   */
  wire(mode, practise) {
    this.#mode = mode;
    this.#practise = practise;
  }

  open() {
    this.#dialog ??= modal("help-dialog", t("pick.help"), [this.#list, this.#note, this.#again()], "?");
    const on = prefs.get("keys");
    replace(this.#note, t(on ? "help.note" : "help.off"));
    replace(this.#list, (on ? this.#working() : []).map(([key, label]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, t(label)))));
    this.#dialog.showModal();
  }

  #working() {
    const { legend = [], idle = [] } = this.#mode();
    const works = ([key]) => !idle.includes(key) && (key !== "A" || aids.foldable);
    return [...legend, ...SHARED.filter(works)];
  }

  #again() {
    const act = () => (this.#dialog.close(), this.#practise());
    return h("div", { class: "row end" }, h("button", { type: "button", id: "practise", class: "btn", onclick: act }, t("practice.again")));
  }
}

export const help = new Help();
