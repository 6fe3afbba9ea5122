// One answer in its frame: heading, tools, text. What a model wrote goes into .others-text only, as
// HTML that the server made from it, or as exact text.

import { send, sentence } from "./api.js";
import { copyText } from "./copying.js";
import { h, replace } from "./dom.js";
import { number, t } from "./i18n.js";

const CHUNK = 8000; // characters of one block of a whole text; blocks out of sight cost no layout

export class Pane {
  /**
   * `id` of the element; `tone` is its class ("left", "right", ...); `title` its heading; `label` its
   * name for screen readers.
   */
  constructor({ id, tone, title, label }) {
    this.text = h("div", { class: "others-text text" });
    this.whole = h("button", { type: "button", class: "link whole", hidden: true, onclick: () => this.#showWhole() });
    this.body = h("div", { class: "body", tabindex: "0", role: "group", "aria-label": label }, this.text, this.whole);
    this.size = h("span", { class: "size" });
    this.tools = h("span", { class: "tools" },
      h("button", { type: "button", class: "tool copy", "aria-label": t("pane.copy_of", { side: label }), onclick: () => this.#copy() }, t("pane.copy")));
    this.head = h("div", { class: "head" }, h("i"), h("h2", {}, title), this.size, this.tools);
    this.element = h("section", { id, class: `card pane ${tone}`, "aria-label": label }, this.head, this.body);
    this.answer = { text: "", html: "", chars: 0, cut: false };
    this.exact = false;
  }

  /** Shows an answer of the API; `path` gives its exact whole text (see answerPath). */
  show(answer, path, exact = this.exact) {
    Object.assign(this, { answer, path, exact });
    this.element.classList.remove("chosen", "busy");
    this.render();
    this.body.scrollTop = 0;
  }

  /** Exact text or Markdown; the text itself stays. */
  render() {
    const { text, html, chars, cut } = this.answer;
    this.text.classList.toggle("exact", this.exact);
    this.text.dir = direction(text);
    if (this.exact || html === undefined) this.text.textContent = text;
    else this.text.innerHTML = html;
    this.size.textContent = cut ? cutNote(text, chars) : "";
    this.whole.hidden = !cut;
    this.whole.disabled = false;
    this.whole.textContent = t("pane.whole", { all: chars });
    letWideThingsScroll(this.text);
  }

  /** Adds streamed text; show() replaces it by the finished answer. */
  append(delta) {
    this.element.classList.add("busy");
    this.text.classList.add("exact");
    this.text.append(delta);
  }

  clear() {
    this.show({ text: "", html: "", chars: 0, cut: false }, null);
  }

  /** The exact whole text, from the server when the page has only its beginning. */
  async exactText() {
    if (!this.answer.cut) return this.answer.text;
    return wholeText(this.path);
  }

  async #copy() {
    const button = this.tools.querySelector(".copy");
    const done = await this.exactText().then(copyText, () => false);
    button.textContent = t(done ? "pane.copied" : "pane.not_copied");
    setTimeout(() => (button.textContent = t("pane.copy")), 1600);
  }

  async #showWhole() {
    this.whole.disabled = true;
    const { path } = this;
    const text = await this.exactText().catch((error) => error);
    if (path !== this.path) return; // another answer is here by now
    if (text instanceof Error) {
      this.whole.disabled = false;
      this.whole.textContent = sentence(text);
      return;
    }
    showExact(this.text, text);
    this.size.textContent = t("pane.all", { all: this.answer.chars });
    this.whole.hidden = true;
  }
}

/** Where the exact text of the answer at this place of the screen is. */
export const answerPath = (pairId, index) => `/desk/pairs/${pairId}/answers/${index}`;

/** The exact whole text at this path. Throws ApiError. */
export const wholeText = async (path) => (await send("GET", path, undefined, AbortSignal.timeout(60_000))).text();

/** Which part of a long text is shown; the server counts characters, not UTF-16 units. */
export const cutNote = (text, all) => t("pane.cut", { shown: [...text].length, all });

/** A text of any length, letter by letter. */
export function showExact(place, text) {
  place.classList.add("exact");
  replace(place, chunks(text).map((chunk) => h("div", { class: "chunk", dir: "auto" }, chunk)));
}

/** Pieces that together are the text without the line breaks between them. Pure. */
export function chunks(text) {
  const pieces = [];
  for (let start = 0; start < text.length; ) {
    let end = Math.min(start + CHUNK, text.length);
    if (end < text.length) end = breakBefore(text, start, end);
    const piece = text.slice(start, end);
    pieces.push(piece.endsWith("\n") && end < text.length ? piece.slice(0, -1) : piece);
    start = end;
  }
  return pieces;
}

/** The end of the last line, else of the last word, else of a whole character. */
function breakBefore(text, start, end) {
  for (const mark of ["\n", " "]) {
    const at = text.lastIndexOf(mark, end - 1);
    if (at > start + CHUNK / 2) return at + 1;
  }
  const code = text.charCodeAt(end);
  return code >= 0xdc00 && code <= 0xdfff ? end - 1 : end;
}

/** Of a whole text, by its first letter: dir=auto looks past blocks that have a dir of their own. */
export function direction(text) {
  const letter = text.match(/\p{L}/u)?.[0] ?? "";
  return /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1eeff}]/u.test(letter) ? "rtl" : "ltr";
}

/** Wide code, tables and formulas scroll by themselves, so they must be reachable by key. */
export function letWideThingsScroll(root) {
  for (const wide of root.querySelectorAll("pre, table, math[display=block]"))
    if (wide.scrollWidth > wide.clientWidth + 1) {
      wide.tabIndex = 0;
      wide.setAttribute("role", wide.tagName === "TABLE" ? "table" : "group");
    }
}
