// What a run was started with, beside the other chosen runs; its rule, its rows and how to start it again.
import { h, replace } from "./dom.js";
import { t } from "./i18n.js";
import { command, rows, rule } from "./train_told.js";
import { plain } from "./train_words.js";

const FACTS = ["base_name", "quantization", "precision", "parent_policy", "start_adapter", "repeat_of", "launcher", "processes", "threads", "device"];

export async function show(panel, feed, run, view, fresh) {
  const ids = [...new Set(view.chosen.flatMap(feed.leaves))];
  const sign = ids.map((id) => `${id} ${feed.run(id)?.status}`).join();
  if (!fresh && panel.dataset.sign === sign) return;
  panel.dataset.sign = sign;
  const details = (await Promise.all(ids.map((id) => feed.fetchDetail(id).catch(() => null)))).filter((one) => one?.config);
  if (view.stale()) return;
  if (!details.length) {
    replace(panel, h("p", { class: "sub empty" }, t("train.config.none")));
    return;
  }
  const mine = new Set(feed.leaves(run.run_id));
  replace(panel, h("div", { class: "config" }, table(details, view), details.filter((one) => mine.has(one.run_id)).map((one) => about(one, mine.size > 1))));
}

// --- settings side by side ------------------------------------------------------------------------

function table(details, view) {
  const names = [...new Set(details.flatMap((one) => Object.keys(one.config.settings ?? {})))];
  const values = (name) => details.map((one) => one.config.settings?.[name]);
  const differs = (name) => new Set(values(name).map((value) => JSON.stringify(value))).size > 1;
  const body = h("tbody", {}, names.map((name) => h("tr", { class: differs(name) ? "differs" : "same" },
    h("th", { scope: "row", class: "mono" }, name),
    details.map((one) => h("td", { class: asked(one, name) ? "asked" : "" }, plain(one.config.settings?.[name]),
      asked(one, name) && h("span", { class: "by-hand", title: t("train.config.by_hand") }, t("train.config.by_hand")))))));
  const several = details.length > 1;
  const only = h("input", { type: "checkbox", id: "only-differences" });
  only.addEventListener("change", () => body.classList.toggle("only-differences", only.checked));
  return h("section", {}, h("div", { class: "tools" }, h("h3", {}, t("train.config.settings")),
    several && h("label", { class: "tick", for: "only-differences" }, only, h("span", {}, t("train.config.differences")))),
  h("div", { class: "wide-table", tabindex: "0", role: "region", "aria-label": t("train.config.settings") },
    h("table", { class: "settings" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("train.config.setting")),
      details.map((one) => h("th", { scope: "col" }, h("span", { class: "run-name" }, h("i", { style: `--c: ${view.tone(one.run_id)}` }), one.run_id))))), body)));
}

const asked = (one, name) => Object.keys(one.asked ?? {}).some((key) => key === name || key === `${one.kind}.${name}`);

// --- one run --------------------------------------------------------------------------------------

function about(one, several) {
  const { config } = one;
  const data = config.data ?? {};
  return h("div", { class: "about" }, several && h("h3", {}, one.run_id),
    config.plan && h("section", {}, h("h3", {}, t("train.rows_of")), rows(config.plan)),
    config.rule && h("section", {}, h("h3", {}, t("train.rule")), rule(config.rule)),
    config.command && h("section", {}, h("h3", {}, t("train.command.anew")), command(config.command)),
    one.repeat && h("section", {}, h("h3", {}, t("train.command.repeat")), command(one.repeat)),
    h("section", {}, h("h3", {}, t("train.environment")), differing(config), h("dl", { class: "pairs" },
      [...FACTS.filter((key) => config[key] !== undefined && config[key] !== null).map((key) => [key, config[key]]), ...Object.entries(config.versions ?? {}), ["data", data.sha256?.slice(0, 16)]]
        .filter(([, value]) => value).map(([key, value]) => h("div", {}, h("dt", { class: "mono" }, key), h("dd", { class: "mono" }, plain(value)))))));
}

/** A repeated run is the same only with the same libraries, processes and device. */
function differing({ repeat_of: run, versions_differ: libraries, machine_differs: machine }) {
  const changes = Object.entries({ ...libraries, ...machine }).map(([name, [then, now]]) => `${name} ${plain(then)} → ${plain(now)}`);
  return changes.length > 0 && h("p", { class: "notice" }, t("train.config.differs", { run, changes: changes.join(", ") }));
}
