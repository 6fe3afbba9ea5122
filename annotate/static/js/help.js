// Every key of the page, as a dialog.

import { h, replace } from "./dom.js";
import { t } from "./i18n.js";
import { modal } from "./modal.js";

const SHARED = [
  ["U", "pick.undo"], ["W", "pick.details"], ["D", "aids.differences"], ["X", "aids.exact"], ["A", "aids.unfold"],
  ["G", "nav.guidelines"], ["?", "pick.help"],
];

class Help {
  #dialog = null;
  #list = h("dl", { class: "keys" });
  #legend = () => [];
  #practise = () => {};

  /** `legend()` gives the keys of the mode on the stage; `practise()` starts the practice round again. */
  wire(legend, practise) {
    this.#legend = legend;
    this.#practise = practise;
  }

  open() {
    this.#dialog ??= modal("help-dialog", t("pick.help"), [this.#list, h("p", { class: "sub" }, t("help.note")), this.#again()], "?");
    replace(this.#list, [...this.#legend(), ...SHARED].map(([key, label]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, t(label)))));
    this.#dialog.showModal();
  }

  #again() {
    const act = () => (this.#dialog.close(), this.#practise());
    return h("div", { class: "row end" }, h("button", { type: "button", id: "practise", class: "btn", onclick: act }, t("practice.again")));
  }
}

export const help = new Help();
