// One's own account: password, languages, goal, tokens, sign-ins.
import { call, sentence } from "./api.js";
import { $, h, replace } from "./dom.js";
import { field, onSave, tell } from "./form.js";
import { date, language, t } from "./i18n.js";
import { secret } from "./secret.js";

// Suggested; any other code can be written.
const SUGGESTED = [
  "ar", "bn", "cs", "de", "en", "es", "fa", "fr", "he", "hi", "id", "it", "ja", "ko", "nl", "pl", "pt", "ru", "sw",
  "th", "tr", "uk", "ur", "vi", "zh-CN", "zh-TW",
];

/** Fills `root` with the account of whoever is signed in. */
export async function show(root) {
  try {
    const [account, { tokens }] = await Promise.all([call("GET", "/account"), call("GET", "/account/tokens")]);
    const role = t(`role.${account.role}`);
    replace(root, h("div", { class: "account" },
      h("header", {}, h("h1", {}, t("account.title")), h("p", { class: "sub" }, t("account.signed_in_as", { name: account.name, role }))),
      work(account), password(account), tokenCard(tokens), everywhere()));
  } catch (error) {
    replace(root, h("div", { class: "account" }, h("section", { class: "card" }, h("p", { role: "alert" }, sentence(error)),
      h("button", { class: "btn", type: "button", onclick: () => show(root) }, t("account.again")))));
  }
}

export function hide() {} // nothing of it goes on in the background

function card(name, title, ...children) {
  return h("section", { class: `card ${name}`, "aria-labelledby": `account-${name}` }, h("h2", { id: `account-${name}` }, title), children);
}

function ending(words, ...before) {
  return h("div", { class: "form-end" }, h("p", { class: "notice", role: "alert", hidden: true }), before,
    h("button", { class: "btn primary", type: "submit" }, words));
}

// --- password ------------------------------------------------------------------------------------

function password(account) {
  const input = (name, autocomplete, problem, more) => h("input", { name, type: "password", autocomplete, required: true, maxlength: "256", dataset: { problem }, ...more });
  const next = input("new", "new-password", t("error.password_short"), { minlength: "10" });
  const current = account.has_password ? input("current", "current-password", t("account.current_missing")) : null;
  const reveal = h("input", { type: "checkbox", dataset: { quiet: "" }, onchange: () => {
    for (const each of [next, current]) if (each) each.type = reveal.checked ? "text" : "password";
  } });
  const form = h("form", {},
    h("input", { class: "unseen", type: "text", name: "username", autocomplete: "username", value: account.name, readonly: true, tabindex: "-1", "aria-hidden": "true" }),
    current ? field(current, { label: t("account.current") }) : h("p", { class: "sub" }, t("account.password_none")),
    field(next, { label: t("account.new"), hint: t("account.new_hint") }),
    h("label", { class: "tick" }, reveal, t("account.show")),
    ending(t(current ? "account.change" : "account.set")));
  const made = card("password", t("account.password"), form);
  onSave(form, async () => {
    await call("POST", "/account/password", { new: next.value, ...(current && { current: current.value }) });
    tell(t("account.changed"));
    made.replaceWith(password({ ...account, has_password: true }));
  });
  return made;
}

// --- languages and goal --------------------------------------------------------------------------

function work(account) {
  const chosen = [...account.languages];
  const chips = h("ul", { class: "languages" });
  const add = h("input", { name: "add", list: "languages-known", autocomplete: "off", onchange: () => take() });
  const goal = h("input", { name: "goal", type: "number", min: "1", max: "10000", step: "1", value: account.goal ?? "", dataset: { problem: t("account.goal_bad") } });

  const draw = () => replace(chips, chosen.length
    ? chosen.map((code) => h("li", {}, named(code), h("button", { type: "button", "aria-label": t("account.language_remove", { name: named(code) }),
      onclick: () => (chosen.splice(chosen.indexOf(code), 1), draw(), add.focus()) }, "×")))
    : h("li", { class: "all" }, t("account.languages_all")));
  const take = () => {
    const code = codeOf(add.value);
    if (code && !chosen.includes(code)) chosen.push(code);
    add.value = "";
    draw();
  };

  const form = h("form", {},
    h("div", { class: "field" }, h("h3", { id: "languages-label" }, t("account.languages")), chips),
    h("datalist", { id: "languages-known" }, SUGGESTED.map((code) => h("option", { value: named(code) }, code))),
    field(add, { label: t("account.language_add"), hint: t("account.languages_hint") }),
    field(goal, { label: t("account.goal"), hint: t("account.goal_hint"), unit: t("account.goal_unit") }),
    ending(t("account.save")));
  chips.setAttribute("aria-labelledby", "languages-label");
  add.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !add.value.trim()) return;
    event.preventDefault();
    take();
  });
  onSave(form, async () => {
    take();
    await call("PATCH", "/account", { languages: chosen, goal: goal.value === "" ? null : Number(goal.value) });
    tell(t("account.saved"));
  });
  draw();
  return card("work", t("account.work"), form);
}

/** "Deutsch" for "de" in the reader's own language; the code where nobody knows its name. */
function named(code) {
  try {
    return new Intl.DisplayNames(language(), { type: "language" }).of(code);
  } catch {
    return code;
  }
}

function codeOf(text) {
  const written = text.trim().toLowerCase();
  return SUGGESTED.find((code) => [code.toLowerCase(), named(code).toLowerCase()].includes(written)) ?? text.trim();
}

// --- tokens --------------------------------------------------------------------------------------

function tokenCard(tokens) {
  const list = h("ul", { class: "token-list" });
  const fresh = h("div", { class: "fresh" });
  const label = h("input", { name: "label", required: true, maxlength: "64", autocomplete: "off", dataset: { problem: t("account.token_label_missing") } });
  const draw = (known) => replace(list, known.length ? known.map(row) : h("li", { class: "sub" }, t("account.tokens_none")));
  const look = async () => draw((await call("GET", "/account/tokens")).tokens);

  function row(token) {
    const name = token.label ?? token.tail ?? "";
    return h("li", {},
      h("div", {}, h("b", {}, name), h("small", {}, [
        token.tail && t("account.token_tail", { tail: token.tail }), t("account.token_since", { date: date(token.created, { dateStyle: "medium" }) }),
      ].filter(Boolean).join(" · "))),
      h("button", { class: "btn", type: "button", "aria-label": t("account.revoke_name", { label: name }), onclick: () => revoke(token, name) }, t("account.revoke")));
  }

  async function revoke(token, name) {
    try {
      await call("DELETE", `/account/tokens/${token.token_id}`);
      tell(t("account.revoked", { label: name }));
    } catch (error) {
      tell(sentence(error));
    }
    await look();
    label.focus();
  }

  const form = h("form", {}, field(label, { label: t("account.token_label") }), ending(t("account.token_make")));
  onSave(form, async () => {
    const { token } = await call("POST", "/account/tokens", { label: label.value.trim() });
    form.reset();
    replace(fresh, h("p", {}, t("account.token_made")), secret(t("account.token_new"), token, tell));
    $("input", fresh).focus();
    tell(t("account.token_made"));
    await look();
  });
  draw(tokens);
  return card("api", t("account.tokens"), h("p", { class: "sub" }, t("account.tokens_hint")), fresh, list, form);
}

// --- sign-ins ------------------------------------------------------------------------------------

function everywhere() {
  return card("everywhere", t("account.everywhere"), h("p", { class: "sub" }, t("account.everywhere_hint")),
    h("button", { class: "btn", type: "button", onclick: async () => {
      try {
        await call("POST", "/account/sign-out-everywhere");
        location.assign("/sign-in");
      } catch (error) {
        tell(sentence(error));
      }
    } }, t("account.everywhere")));
}
