// Native modal dialogs: they hold the focus, close on Escape and give it back where it was.

import { h } from "./dom.js";
import { t } from "./i18n.js";

/** A closed <dialog> on the page with a heading, a close button and this content. `key` closes it too. */
export function modal(id, title, content, key) {
  const close = () => dialog.close();
  const dialog = h("dialog", { id, class: "card", "aria-labelledby": `${id}-title` },
    h("div", { class: "dialog-head" }, h("h2", { id: `${id}-title` }, title),
      h("button", { type: "button", class: "close", "aria-label": t("dialog.close"), onclick: close }, "×")),
    content);
  dialog.addEventListener("click", (event) => event.target === dialog && close()); // its backdrop
  dialog.addEventListener("keydown", (event) => key && event.key.toLowerCase() === key && (event.preventDefault(), close()));
  document.getElementById("shell-root").append(dialog);
  return dialog;
}
