// The frame of every page of ours: top bar, account menu and the page's own skeleton.

import { ApiError, call } from "./api.js";
import { $, h, replace } from "./dom.js";
import { language, languages, load, setLanguage, t } from "./i18n.js";
import { patiently } from "./patience.js";
import * as prefs from "./prefs.js";

/**
 * Shows the page: `page` is its name among `user.pages`, `view(main, user)` fills the <main> that
 * already holds the translated skeleton; `user` is {name, role, pages, ...} of GET /account.
 */
export async function start({ page, view }) {
  prefs.apply();
  const asked = call("GET", "/account").catch(() => null);
  await load();
  const skeleton = document.getElementById("skeleton");
  document.title = `${t(`nav.${page}`)} · prefloop`;
  const main = h("main", { id: "main", class: "view", tabindex: "-1" });
  main.innerHTML = skeleton.textContent; // a file of ours
  translate(main);
  const root = h("div", { id: "shell-root" }, skipLink(main), topBar(page), main);
  await keepAttached(root);
  const user = (await asked) ?? (await askAgain(main));
  if (!user) return;
  welcome(root, user, page);
  await view(main, user);
}

/** The account, however long it takes; null when the server refuses it, which the page then says. */
async function askAgain(main) {
  const line = h("p", { class: "notice", role: "alert", hidden: true });
  main.prepend(line);
  const tell = (words) => (replace(line, words).hidden = !words);
  return patiently(() => call("GET", "/account"), tell).catch((error) => {
    if (!(error instanceof ApiError)) throw error;
    return null;
  });
}

/** Fills data-t (text), data-t-label, data-t-title and data-t-placeholder below `root`. */
export function translate(root) {
  const attributes = { tLabel: "aria-label", tTitle: "title", tPlaceholder: "placeholder" };
  for (const element of root.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const [name, attribute] of Object.entries(attributes)) {
    const selector = `[data-${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}]`;
    for (const element of root.querySelectorAll(selector)) element.setAttribute(attribute, t(element.dataset[name]));
  }
}

/** Marks the entry of the top bar that the reader is at. */
export function here(page) {
  for (const link of document.querySelectorAll("#topbar nav a")) {
    if (link.dataset.page === page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

// Gradio makes the column some time after this module starts, and empties it once more afterwards.
// Resolves when the page is there for the first time.
function keepAttached(root) {
  const { promise, resolve } = Promise.withResolvers();
  const attach = () => {
    const shell = document.getElementById("shell");
    if (!shell || root.isConnected) return;
    shell.append(root);
    for (let outer = shell.closest("main"); outer; outer = outer.parentElement.closest("main"))
      outer.setAttribute("role", "presentation"); // ours is the page's <main>
    resolve();
  };
  new MutationObserver(attach).observe(document.body, { childList: true, subtree: true });
  attach();
  return promise;
}

const skipLink = (main) =>
  h("a", { class: "skip", href: "#main", onclick: (event) => (event.preventDefault(), main.focus()) }, t("nav.skip"));

function topBar(page) {
  return h("header", { id: "topbar", role: "banner" },
    h("div", { class: "line" },
      h("span", { class: "brand", "aria-hidden": "true" }, h("i"), h("i"), h("b", {}, "prefloop")),
      h("nav", { "aria-label": t("nav.pages") }, h("a", { href: `/${page}`, "aria-current": "page" }, t(`nav.${page}`))),
      h("div", { id: "top-slot" }),
      h("div", { id: "account-slot" })));
}

function welcome(root, user, page) {
  const links = user.pages.map(({ page: name, path }) =>
    h("a", { href: path, dataset: { page: name }, "aria-current": name === page ? "page" : null }, t(`nav.${name}`)));
  replace($("nav", root), links);
  replace($("#account-slot", root), ...accountMenu(user, links));
}

function accountMenu(user, links) {
  const menu = h("div", { id: "account-menu", popover: "auto" },
    h("nav", { class: "small-nav", "aria-label": t("nav.pages") }, links.map((link) => link.cloneNode(true))),
    choice("theme", t("nav.theme"), prefs.THEMES.map((each) => [each, t(`nav.theme.${each}`)])),
    choice("text", t("nav.text"), prefs.TEXT_SIZES.map((each) => [each, t(`nav.text.${each}`)])),
    choice("keys", t("nav.keys"), [true, false].map((each) => [each, t(each ? "nav.keys.on" : "nav.keys.off")])),
    h("label", { class: "row" }, h("span", {}, t("nav.language")),
      h("select", { id: "language", onchange: (event) => setLanguage(event.target.value) },
        languages().map(([code, name]) => h("option", { value: code, lang: code, selected: code === language() }, name)))),
    h("div", { class: "row" },
      h("a", { class: "btn quiet", href: "/annotate#account" }, t("nav.account")),
      h("button", { type: "button", class: "btn quiet", id: "sign-out", onclick: signOut }, t("nav.sign_out"))));
  menu.addEventListener("click", (event) => event.target.closest("a") && menu.hidePopover());
  const button = h("button", { type: "button", id: "account-button", class: "who", popovertarget: "account-menu", "aria-label": t("nav.menu", { name: user.name }) },
    h("span", { class: "avatar", "aria-hidden": "true" }, [...user.name][0] ?? "?"),
    h("span", { class: "name" }, user.name));
  return [button, menu];
}

/** A row of radio buttons for one preference of this device. */
function choice(name, label, options) {
  return h("fieldset", { class: "choice" }, h("legend", {}, label),
    h("div", { class: "segments" }, options.map(([value, text]) =>
      h("label", {}, h("input", {
        type: "radio", name, value, checked: prefs.get(name) === value,
        onchange: () => (prefs.set(name, value), prefs.apply()),
      }), h("span", {}, text)))));
}

async function signOut() {
  await fetch("/sign-out", { method: "POST", redirect: "manual" });
  location.assign("/sign-in");
}
