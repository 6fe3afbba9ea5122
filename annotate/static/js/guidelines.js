// The guidelines, and a mark on their button when they changed since this device showed them.

import { ApiError, call, sentence } from "./api.js";
import { $, h } from "./dom.js";
import { date, t } from "./i18n.js";
import { modal } from "./modal.js";
import * as prefs from "./prefs.js";

class Guidelines {
  #dialog = null;
  #body = h("div", { class: "guidelines", tabindex: "0", dir: "auto" });
  #version = null;

  wire(main) {
    $("#guidelines", main).addEventListener("click", () => this.open());
  }

  /** The version that goes with the screen; null while there are none. */
  version(version) {
    this.#version = version;
    this.#badge();
  }

  async open() {
    this.#dialog ??= modal("guidelines-dialog", t("nav.guidelines"), this.#body, "g");
    if (this.#dialog.open) return;
    this.#dialog.showModal();
    this.#body.focus();
    try {
      this.#show(await call("GET", "/desk/guidelines"));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.#body.textContent = sentence(error);
    }
  }

  #show({ version, html, created }) {
    if (version === null) {
      this.#body.textContent = t("guidelines.none");
      return;
    }
    this.#body.innerHTML = html; // from the server's own Markdown, as answers are
    this.#body.append(h("p", { class: "sub" }, t("guidelines.version", { version, date: date(created) })));
    prefs.set("guidelines", version);
    this.#badge();
  }

  #badge() {
    const unseen = this.#version !== null && this.#version !== undefined && this.#version !== prefs.get("guidelines");
    const button = $("#guidelines");
    if (!button) return;
    $(".badge", button).textContent = unseen ? t("guidelines.changed") : "";
  }
}

export const guidelines = new Guidelines();
