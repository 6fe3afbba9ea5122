// The researcher's set-up: four sections of one page, chosen by the address.
import { call, sentence } from "./api.js";
import { $, h, replace } from "./dom.js";
import { mayLeave, tell } from "./form.js";
import { number, t } from "./i18n.js";
import * as flags from "./pools_flags.js";
import * as guidelines from "./pools_guidelines.js";
import * as pools from "./pools_list.js";
import * as practice from "./pools_practice.js";
import { start } from "./shell.js";

const SECTIONS = { pools, flags, guidelines, practice };

let main;
let here; // the name of the section on the screen

await start({ page: "pools", view });

async function view(place) {
  main = place;
  addEventListener("hashchange", go);
  await Promise.all([go(), countFlags()]);
}

function named() {
  const name = location.hash.slice(1);
  return Object.hasOwn(SECTIONS, name) ? name : "pools";
}

async function go() {
  const name = named();
  if (name === here) return;
  if (here && !(await mayLeave())) {
    history.replaceState(null, "", `#${here}`);
    return;
  }
  here = name;
  for (const link of main.querySelectorAll("#sections a")) {
    if (link.hash === `#${name}`) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else link.removeAttribute("aria-current");
  }
  tell("");
  const box = h("div", { class: `set-${name}` });
  try {
    await SECTIONS[name].show(box, badge);
  } catch (error) {
    const again = h("button", { class: "btn", type: "button", onclick: () => { here = undefined; go(); } }, t("pools.again"));
    replace(box, h("div", { class: "card" }, h("p", { role: "alert" }, sentence(error)), again));
  }
  if (here === name) replace($("#section", main), box);
}

async function countFlags() {
  const { flags: open } = await call("GET", "/flags").catch(() => ({ flags: [] }));
  badge(open.length);
}

function badge(count) {
  const sign = $("#open-flags", main);
  sign.hidden = count === 0;
  replace(sign, h("span", { "aria-hidden": "true" }, number(count)), h("span", { class: "unseen" }, t("flags.open", { n: count })));
}
