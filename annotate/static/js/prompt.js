// The prompt card: all turns, the last one in sight.

import { copyText } from "./copying.js";
import { $, h, replace } from "./dom.js";
import { t } from "./i18n.js";
import { direction, letWideThingsScroll } from "./pane.js";
import { aids } from "./reading.js";

let shown = [];

/** `messages` are those of the API: [{role, content, html, chars}]. */
export function showPrompt(messages) {
  shown = messages;
  $("#prompt-card").hidden = false;
  paint();
}

export function hidePrompt() {
  $("#prompt-card").hidden = true;
}

function paint() {
  const single = shown.length === 1 && shown[0].role === "user";
  const place = replace($("#prompt"), shown.map((message) => turn(message, single)));
  letWideThingsScroll(place);
  const last = place.lastElementChild;
  place.scrollTop = last && !single ? last.offsetTop - place.offsetTop : 0;
}

function turn({ role, content, html, chars }, single) {
  const said = h("div", { class: "others-text said", dir: direction(content) });
  if (aids.exact || html === undefined) {
    said.classList.add("exact");
    said.textContent = content;
  } else said.innerHTML = html;
  const cut = chars > content.length ? h("p", { class: "sub" }, t("pane.cut", { shown: content.length, all: chars })) : null;
  return h("div", { class: `turn ${role}` }, single ? null : h("span", { class: "label" }, t(`prompt.${role}`)), said, cut);
}

/** Wires the card's copy button and follows the exact-text toggle. */
export function wirePrompt() {
  document.addEventListener("exacttext", paint);
  const button = $("#copy-prompt");
  button.addEventListener("click", async () => {
    const done = await copyText(shown.map((message) => message.content).join("\n\n"));
    button.textContent = t(done ? "pane.copied" : "pane.not_copied");
    setTimeout(() => (button.textContent = t("pane.copy")), 1600);
  });
}
