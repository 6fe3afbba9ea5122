// The prompt card: all turns, the last one in sight.

import { sentence } from "./api.js";
import { copyText } from "./copying.js";
import { $, h, replace } from "./dom.js";
import { t } from "./i18n.js";
import { cutNote, direction, letWideThingsScroll, showExact, wholeText } from "./pane.js";
import { aids } from "./reading.js";

let shown = [];
let pair = null; // the id of the pair that they belong to: the server has all of a long text for it

/** `messages` are those of the API: [{role, content, html, chars, cut}]. */
export function showPrompt(messages, pairId = null) {
  [shown, pair] = [messages, pairId];
  $("#prompt-card").hidden = false;
  paint();
}

export function hidePrompt() {
  $("#prompt-card").hidden = true;
}

function paint() {
  const single = shown.length === 1 && shown[0].role === "user";
  const place = replace($("#prompt"), shown.map((message, index) => turn(message, index, single)));
  letWideThingsScroll(place);
  const last = place.lastElementChild;
  place.scrollTop = last && !single ? last.offsetTop - place.offsetTop : 0;
}

function turn(message, index, single) {
  const { role, content, html } = message;
  const said = h("div", { class: "others-text said", dir: direction(content) });
  if (aids.exact || html === undefined) {
    said.classList.add("exact");
    said.textContent = content;
  } else said.innerHTML = html;
  return h("div", { class: `turn ${role}` }, single ? null : h("span", { class: "label" }, t(`prompt.${role}`)), said,
    message.cut ? rest(message, index, said) : null);
}

/** What is said below the beginning of a long text, and the button that shows all of it. */
function rest(message, index, said) {
  const note = h("span", {}, cutNote(message.content, message.chars));
  const button = h("button", { type: "button", class: "link whole", onclick: show }, t("pane.whole", { all: message.chars }));
  return h("p", { class: "sub" }, note, " ", pair ? button : null);

  async function show() {
    button.disabled = true;
    try {
      showExact(said, await exactText(message, index, pair));
      note.textContent = t("pane.all", { all: message.chars });
      button.remove();
    } catch (error) {
      button.disabled = false;
      button.textContent = sentence(error);
    }
  }
}

/** Throws ApiError. */
async function exactText({ cut, content }, index, pairId) {
  return cut ? wholeText(`/desk/pairs/${pairId}/prompt/${index}`) : content;
}

/** Wires the card's copy button and follows the exact-text toggle. */
export function wirePrompt() {
  document.addEventListener("exacttext", paint);
  const button = $("#copy-prompt");
  button.addEventListener("click", async () => {
    const texts = Promise.all(shown.map((message, index) => exactText(message, index, pair)));
    const done = await texts.then((all) => copyText(all.join("\n\n")), () => false);
    button.textContent = t(done ? "pane.copied" : "pane.not_copied");
    setTimeout(() => (button.textContent = t("pane.copy")), 1600);
  });
}
