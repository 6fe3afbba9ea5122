// What a run would do, before it starts: its rows, its rule, what to think of, and the same as a command.
import { h, replace } from "./dom.js";
import { t } from "./i18n.js";
import { command, rows, rule } from "./train_told.js";
import { kindName, told, why } from "./train_words.js";

export class Preview {
  constructor(start) {
    this.body = h("div", { class: "preview-body" });
    this.problem = h("p", { class: "notice", role: "alert", hidden: true });
    this.button = h("button", { type: "button", class: "btn primary", id: "start-run", onclick: start }, t("train.form.start"));
    this.element = h("aside", { class: "card preview", "aria-labelledby": "preview-title" },
      h("h2", { id: "preview-title" }, t("train.preview")), this.body, h("div", { class: "form-end" }, this.problem, this.button));
  }

  wait() {
    this.element.ariaBusy = "true";
  }

  /** Until show(): what stands there is not to be started. */
  hold() {
    this.wait();
    this.body.inert = this.button.disabled = true;
  }

  /** An answer of POST /runs/preview. */
  show(plan) {
    this.element.ariaBusy = "false";
    this.body.inert = false;
    const several = plan.parts.length > 1;
    const opened = [...this.body.querySelectorAll("details")].map((each) => each.open); // by the reader
    const usual = !several && matchMedia("(min-width: 1181px)").matches; // else it pushes the start away
    replace(this.body, plan.parts.map((part, n) => h("section", {}, several && h("h3", {}, kindName(part.part)), rows(part.plan, part.steps), warnings(part.warnings), problem(part),
      h("details", { open: opened.length === plan.parts.length ? opened[n] : usual }, h("summary", {}, t("train.rule")), rule(part.rule)))),
    h("section", {}, h("h3", {}, t("train.command")), command(plan.command)));
    const known = plan.parts.some((part) => part.problem);
    this.#say(plan.problem && !known ? why(plan.problem) : "");
    this.button.disabled = Boolean(plan.problem || known);
  }

  /** What stands there was the plan of something else: it is not to be copied. */
  refuse(words) {
    this.element.ariaBusy = "false";
    this.body.inert = true;
    this.#say(words);
    this.button.disabled = true;
  }

  /** The start did not work; the plan still stands, and the next click may. */
  failed(words) {
    this.element.ariaBusy = "false";
    this.#say(words);
    this.button.disabled = false;
  }

  #say(words) {
    replace(this.problem, words);
    this.problem.hidden = !words;
  }
}

function problem({ problem: sentence, plan }) {
  if (!sentence) return null;
  const keyed = plan.problem?.message === sentence ? plan.problem : null;
  return h("p", { class: "notice" }, keyed ? told("train.plan", keyed) : why(sentence));
}

function warnings(found) {
  if (!found.length) return null;
  return h("ul", { class: "warnings" }, found.map((one) => h("li", {}, told("train.plan", one))));
}
