// Flags: pairs that an annotator took out of the queue, for a researcher to decide.
import { call, sentence } from "./api.js";
import { h, replace } from "./dom.js";
import { tell } from "./form.js";
import { date, t } from "./i18n.js";

let box;
let told; // the number of open flags, for the badge

export async function show(section, badge) {
  box = section;
  told = badge;
  const { flags } = await call("GET", "/flags");
  told(flags.length);
  const cards = flags.map(card);
  replace(box,
    h("div", { class: "intro" }, h("h1", { tabindex: "-1" }, t("flags.title")), h("p", { class: "sub" }, t("flags.what"))),
    ...cards,
    h("p", { class: "card empty", hidden: cards.length > 0 }, t("flags.none")));
}

function card(flag) {
  const made = h("article", { class: "card flag", "aria-label": t("flags.by", { name: flag.by }), dataset: { judgment: flag.judgment_id } },
    h("header", {},
      h("p", {}, h("b", {}, t("flags.by", { name: flag.by })), " ", h("time", { class: "sub", datetime: flag.created }, date(flag.created))),
      flag.reasons.length ? h("ul", { class: "chips", "aria-label": t("flags.reasons") }, ...flag.reasons.map(reason)) : ""),
    flag.comment ? h("blockquote", {}, flag.comment) : "",
    h("h2", { class: "label" }, t("flags.prompt")),
    h("div", { class: "prompt-text", tabindex: "0", role: "region", "aria-label": t("flags.prompt") }, ...flag.prompt.map(turn)),
    h("div", { class: flag.answers.length > 2 ? "answers four" : "answers" },
      ...flag.answers.map((answer, place) => pane(answer, t("flags.answer", { n: place + 1 })))),
    decision(flag));
  return made;
}

const reason = (key) => {
  const words = t(`reason.${key}`);
  return h("li", { class: "chip warn" }, words === `reason.${key}` ? key : words);
};

function turn({ role, html }) {
  const said = h("div", { class: "others-text", dir: "auto" });
  said.innerHTML = html; // rendered and cleaned by the server
  return h("div", { class: `turn ${role}` }, role === "user" ? "" : h("span", { class: "label" }, t(`flags.role.${role}`)), said);
}

function pane({ html, cut }, title) {
  const text = h("div", { class: "others-text", dir: "auto", tabindex: "0", role: "region", "aria-label": title });
  text.innerHTML = html; // rendered and cleaned by the server
  return h("section", { class: "answer-box" }, h("h3", {}, title), text, cut ? h("p", { class: "sub" }, t("flags.cut")) : "");
}

// --- the decision --------------------------------------------------------------------------------

function decision(flag) {
  const noteId = `note-${flag.judgment_id}`;
  const note = h("input", { id: noteId, name: "note", maxlength: "2000", autocomplete: "off",
    onkeydown: (event) => event.key === "Enter" && event.preventDefault() }); // a decision takes a button
  const problem = h("p", { class: "notice", role: "alert", hidden: true });
  const made = h("form", { class: "decide" },
    h("div", { class: "field" }, h("label", { for: noteId }, t("flags.note")), note),
    h("div", { class: "ways" },
      way("returned", "btn", t("flags.return"), t("flags.return_hint")),
      way("removed", "btn danger", t("flags.remove"), t("flags.remove_hint"))),
    problem);
  made.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (made.ariaBusy === "true") return;
    made.ariaBusy = "true";
    problem.hidden = true;
    try {
      const action = event.submitter.value;
      await call("POST", `/flags/${flag.judgment_id}`, { action, note: note.value.trim() || null });
      gone(made.closest("article"), t(`flags.${action}`));
    } catch (error) {
      problem.textContent = sentence(error);
      problem.hidden = false;
    } finally {
      made.ariaBusy = "false";
    }
  });
  return made;
}

function way(action, look, words, hint) {
  const hintId = `way-${action}-${crypto.randomUUID()}`;
  return h("div", {},
    h("button", { class: look, type: "submit", name: "action", value: action, "aria-describedby": hintId }, words),
    h("p", { class: "hint", id: hintId }, hint));
}

function gone(article, words) {
  const next = article.nextElementSibling;
  article.remove();
  const left = box.querySelectorAll("article.flag").length;
  told(left);
  tell(words);
  box.querySelector("p.empty").hidden = left > 0;
  const focus = next?.matches("article.flag") ? next.querySelector("input") : box.querySelector("article.flag input");
  (focus || box.querySelector("h1")).focus();
}
