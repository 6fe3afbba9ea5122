// What stands in place of the answers while there is no pair.

import { undoButton } from "./actions.js";
import { $, h, replace } from "./dom.js";
import { has, t } from "./i18n.js";

/** `waiting` is {code, message, minutes} of the API. */
export function showWaiting(desk, waiting) {
  const sentence = sentenceOf(waiting);
  const card = $("#waiting");
  if (card.hidden) {
    replace(card, h("span", { class: "calm", "aria-hidden": "true" }), h("h2", {}, t("wait.title")), h("p", { class: "sub" }), undoButton(desk));
    card.hidden = false;
  }
  const line = $("p", card);
  if (line.textContent !== sentence) line.textContent = sentence;
}

function sentenceOf(waiting) {
  if (waiting?.minutes) return t(`wait.${waiting.code}_for`, { n: waiting.minutes });
  const key = `wait.${waiting?.code}`;
  return has(key) ? t(key) : (waiting?.message ?? "");
}

export function hideWaiting() {
  const card = $("#waiting");
  card.hidden = true;
  card.replaceChildren(); // its undo button has the id of the mode's
}
