// Guidelines: what annotators go by. Each published text is a version that every pick names.
import { call, sentence } from "./api.js";
import { h, replace } from "./dom.js";
import { changed, field, mayLeave, onSave, tell } from "./form.js";
import { date, number, t } from "./i18n.js";
import { modal } from "./modal.js";

const PAUSE_MS = 350; // without a key before the preview is asked for

let box;
let known;

export async function show(section) {
  box = section;
  known = await call("GET", "/guidelines");
  draw();
}

function draw() {
  replace(box, editor(), history());
  preview(box.querySelector("textarea").value);
}

function editor() {
  const next = (known.versions[0]?.version ?? 0) + 1;
  const text = h("textarea", { name: "markdown", rows: "18", required: true, spellcheck: "true", dataset: { problem: t("guidance.empty") } });
  text.value = text.defaultValue = known.current?.markdown ?? "";
  let pause;
  text.addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(() => preview(text.value), PAUSE_MS);
  });
  const form = h("form", { class: "card guarded editor" },
    h("div", {}, h("div", { class: "head-line" }, h("h1", { tabindex: "-1" }, t("guidance.title")),
      known.current ? h("span", { class: "chip good" }, t("guidance.in_force", { n: known.current.version })) : h("span", { class: "chip" }, t("guidance.none_yet"))),
    h("p", { class: "sub" }, t("guidance.what"))),
    h("div", { class: "write-and-see" },
      field(text, { label: t("guidance.text"), hint: t("guidance.text_hint") }),
      h("section", { class: "seen", "aria-label": t("guidance.preview") }, h("h2", { class: "title" }, t("guidance.preview")), h("div", { class: "guidelines", id: "preview", dir: "auto" }))),
    h("div", { class: "form-end" },
      h("p", { class: "notice", role: "alert", hidden: true }),
      h("button", { class: "btn primary", type: "submit" }, t("guidance.publish", { n: next }))));
  onSave(form, () => publish(form, text));
  return form;
}

let asked = 0;

async function preview(markdown) {
  const mine = (asked += 1);
  const place = box.querySelector("#preview");
  if (!markdown.trim()) return replace(place, h("p", { class: "sub" }, t("guidance.preview_empty")));
  try {
    const { html } = await call("POST", "/guidelines/preview", { markdown });
    if (mine === asked) place.innerHTML = html; // rendered and cleaned by the server
  } catch (error) {
    if (mine === asked) replace(place, h("p", { class: "sub" }, sentence(error)));
  }
}

async function publish(form, text) {
  const { version } = await call("POST", "/guidelines", { markdown: text.value });
  known = await call("GET", "/guidelines");
  draw();
  tell(t("guidance.published", { n: version }));
  box.querySelector("h1").focus();
}

// --- history -------------------------------------------------------------------------------------

function history() {
  if (!known.versions.length) return "";
  return h("section", { class: "card" },
    h("h2", {}, t("guidance.history")),
    h("table", { class: "stacking" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("guidance.version")), h("th", { scope: "col" }, t("guidance.when")),
        h("th", { scope: "col" }, t("guidance.author")), h("th", { scope: "col", class: "n" }, t("guidance.picks")), h("th", { scope: "col" }, h("span", { class: "unseen" }, t("guidance.read"))))),
      h("tbody", {}, ...known.versions.map((version) => h("tr", {},
        h("td", {}, number(version.version)), h("td", {}, date(version.created)), h("td", {}, version.author),
        h("td", { class: "n", dataset: { label: t("guidance.picks") } }, number(version.picks)),
        h("td", { class: "n" }, h("button", { class: "link", type: "button", "aria-label": t("guidance.read_version", { n: version.version }), onclick: () => read(version.version) }, t("guidance.read"))))))));
}

async function read(version) {
  const { markdown, html } = await call("GET", `/guidelines/${version}`);
  const text = h("div", { class: "guidelines", tabindex: "0", dir: "auto" });
  text.innerHTML = html; // rendered and cleaned by the server
  const again = h("button", { class: "btn", type: "button", onclick: () => (dialog.close(), startFrom(markdown)) }, t("guidance.start_from"));
  const dialog = modal("read-version", t("guidance.version_n", { n: version }), h("div", { class: "version" }, text, again));
  dialog.addEventListener("close", () => dialog.remove());
  dialog.showModal();
}

async function startFrom(markdown) {
  const form = box.querySelector("form.editor");
  if (changed(form) && !(await mayLeave())) return;
  const text = form.elements.markdown;
  text.value = markdown;
  preview(markdown);
  text.focus();
}
