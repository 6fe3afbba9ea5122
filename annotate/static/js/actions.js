// Buttons of the action bars: what they do, and the key that does the same, shown on them.

import { details } from "./details.js";
import { $, h } from "./dom.js";
import { t } from "./i18n.js";

/**
 * A button with its key. `act` is not called for the second click of a double click, nor while Enter
 * is held: both were meant for what the first one took away.
 */
export function action({ id, label, keys = [], look = "", act }) {
  const shown = keys.length ? h("kbd", { "aria-hidden": "true" }, keys[0]) : null;
  const onclick = (event) => event.detail < 2 && act();
  const onkeydown = (event) => event.repeat && event.preventDefault();
  const props = { id, type: "button", class: `btn ${look}`, "aria-keyshortcuts": keys.join(" ") || null, onclick, onkeydown };
  return h("button", props, h("span", {}, t(label)), shown);
}

/** Undo is the same button in every mode. */
export const undoButton = (desk) => action({ id: "undo", label: "pick.undo", keys: ["U"], look: "quiet", act: desk.undo });

/** The line under a bar: what is used now and then. On a phone it opens with the button `more`. */
export function foot(desk, { flag, edit }) {
  const parts = [
    edit && h("span", { class: "hint" }, t("pick.much"), " ", h("kbd", {}, t("key.shift"))),
    edit && action({ id: "edit", label: "pick.edit", keys: ["E"], look: "small", act: edit }),
    action({ id: "details", label: "pick.details", keys: ["W"], look: "small", act: () => details.toggle() }),
    action({ id: "pick-flag", label: "pick.flag", keys: ["F"], look: "small", act: flag }),
    action({ id: "help", label: "pick.help", keys: ["?"], look: "small", act: desk.help }),
  ];
  return h("div", { class: "foot" }, parts);
}

/** The bar at the bottom: actions, and a foot that a phone shows after "More" until one is chosen. */
export function dock(bar, under) {
  const button = $("#more", bar);
  const frame = h("div", { class: "dock" }, bar, under);
  const open = (wanted) => {
    frame.classList.toggle("more-open", wanted);
    button.setAttribute("aria-expanded", String(wanted));
  };
  button.addEventListener("click", () => open(!frame.classList.contains("more-open")));
  under.addEventListener("click", (event) => event.target.closest("button") && open(false));
  open(false);
  return frame;
}

/** "More", for the bar of a dock. */
export const moreButton = () => h("button", { type: "button", id: "more", class: "btn quiet" }, t("pick.more"));
