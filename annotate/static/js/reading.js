// Reading aids for the answers on the screen: exact text, differences, folding, scrolling together.

import { differences, words } from "./diff.js";
import { $ } from "./dom.js";
import { mark, unmark } from "./highlights.js";
import { t } from "./i18n.js";
import * as prefs from "./prefs.js";

const BUTTONS = ["exact", "differences", "together"];

class Aids {
  panes = [];
  foldHeight = 480;
  #differences = false;
  #foldable = false;
  #folded = false;
  #scrolledTo = new WeakMap(); // body -> the place we put it, whose scroll event is no reader's
  #known = new WeakSet(); // panes that report their scrolling
  #say = () => {};

  /** Finds the buttons of the prompt card; `say` tells the reader what a toggle did. */
  wire(main, say) {
    this.#say = say;
    const acts = { exact: () => this.toggleExact(), differences: () => this.toggleDifferences(), together: () => this.toggleTogether() };
    for (const id of BUTTONS) $(`#${id}`, main).addEventListener("click", acts[id]);
    this.#press();
  }

  /** These panes are on the screen now, with new texts in them. */
  attend(panes, foldHeight) {
    for (const pane of panes) if (!this.#known.has(pane)) this.#meet(pane);
    Object.assign(this, { panes, foldHeight });
    this.#folded = true;
    this.#refold();
    this.#compare();
  }

  #meet(pane) {
    this.#known.add(pane);
    pane.body.addEventListener("scroll", () => this.#follow(pane), { passive: true });
    pane.text.addEventListener("focusin", () => this.#folded && this.toggleFold()); // a link below the fold
  }

  /** As prefs say, for a pane that is about to be shown. */
  get exact() {
    return prefs.get("exact");
  }

  toggleExact() {
    prefs.set("exact", !this.exact);
    for (const pane of this.panes) {
      pane.exact = this.exact;
      pane.render();
    }
    document.dispatchEvent(new CustomEvent("exacttext")); // the prompt follows
    this.#press();
    this.#refold();
    this.#compare();
    this.#say(t(this.exact ? "aids.exact_on" : "aids.exact_off"));
  }

  toggleDifferences() {
    if (this.panes.length !== 2) return;
    this.#differences = !this.#differences;
    this.#press();
    const complete = this.#compare();
    this.#say(t(!this.#differences ? "aids.differences_off" : complete ? "aids.differences_on" : "aids.differences_part"));
  }

  toggleTogether() {
    prefs.set("together", !prefs.get("together"));
    this.#press();
    this.#say(t(prefs.get("together") ? "aids.together_on" : "aids.together_off"));
  }

  /** Whether there is more to show than what is on the screen. */
  get foldable() {
    return this.#foldable;
  }

  toggleFold() {
    if (!this.#foldable) return;
    this.#folded = !this.#folded;
    this.#refold();
  }

  #press() {
    const on = { exact: this.exact, differences: this.#differences, together: prefs.get("together") };
    for (const id of BUTTONS) $(`#${id}`)?.setAttribute("aria-pressed", String(on[id]));
  }

  // The same height on all sides, whichever of them is long: a fold must not tell them apart. Where
  // the window leaves the panes more than that, a fold above their end would waste it.
  #refold() {
    const frame = this.panes[0]?.element.parentElement;
    const button = $("#unfold");
    if (!frame || !button) return;
    frame.style.setProperty("--fold", `${this.foldHeight}px`);
    frame.classList.add("folded");
    const limit = Math.max(this.foldHeight, this.panes[0].body.clientHeight);
    this.#foldable = this.panes.some((pane) => pane.text.scrollHeight > limit);
    for (const { body, element, text } of this.panes) {
      if (this.#folded) body.scrollTop = 0;
      element.classList.toggle("longer", text.scrollHeight > body.clientHeight);
    }
    frame.classList.toggle("folded", this.#foldable && this.#folded);
    button.hidden = !this.#foldable;
    button.firstChild.textContent = t(this.#folded ? "aids.unfold" : "aids.fold");
    button.setAttribute("aria-expanded", String(!this.#folded));
  }

  /** Marks what differs if that is asked for; false when part of it was too different to compare. */
  #compare() {
    unmark();
    if (!this.#differences || this.panes.length !== 2) return true;
    const texts = this.panes.map((pane) => visibleWords(pane.text));
    const { left, right, complete } = differences(...texts.map((all) => all.map((word) => word.text)));
    mark("left", texts[0].filter((_, index) => left[index]));
    mark("right", texts[1].filter((_, index) => right[index]));
    return complete;
  }

  #follow(pane) {
    const { scrollTop, scrollHeight, clientHeight } = pane.body;
    const ours = this.#scrolledTo.get(pane.body);
    this.#scrolledTo.delete(pane.body);
    if (!prefs.get("together") || (ours !== undefined && Math.abs(ours - scrollTop) < 2)) return;
    const share = scrollTop / Math.max(1, scrollHeight - clientHeight);
    for (const { body } of this.panes) {
      if (body === pane.body) continue;
      const top = Math.round(share * Math.max(0, body.scrollHeight - body.clientHeight));
      if (Math.abs(top - body.scrollTop) < 1) continue;
      this.#scrolledTo.set(body, top);
      body.scrollTop = top;
    }
  }
}

/** The one set of aids of the page. */
export const aids = new Aids();

/** [{text, node, start, end}] of each word below `root`, in reading order; marks apart. */
function visibleWords(root) {
  const found = [];
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode())
    for (const word of words(node.data)) found.push({ ...word, node });
  return found;
}
