// When the next round starts by itself, in one line; all triggers behind it.
import { h } from "./dom.js";
import { date, t } from "./i18n.js";
import { span, told } from "./train_words.js";

/** From GET /stats; nothing while it is not known. */
export function nextRound(stats) {
  if (!stats) return null;
  const triggers = (stats.triggers ?? []).filter((one) => one.name !== "person");
  const coming = triggers.filter((one) => stats.next_by?.includes(one.name)).map(sentenceOf);
  const head = coming.length ? t("train.next", { when: coming.reduce((one, other) => t("train.next.or", { one, other })) }) : t("train.next.demand");
  return [
    h("span", { class: "next" }, h("b", {}, head)),
    triggers.length > 0 && h("details", {}, h("summary", {}, t("train.triggers")),
      h("dl", { class: "triggers card" }, triggers.map((one) => h("div", { class: one.on ? "on" : "off" },
        h("dt", {}, t(`train.trigger_of.${one.name}`)), h("dd", {}, sentenceOf(one), one.on && one.cooldown > 0 && h("small", {}, t("train.trigger.cooldown", { span: span(one.cooldown) }))))))),
    buffer(stats),
  ];
}

function sentenceOf(one) {
  if (one.key === "at" && one.due_in) return t("train.trigger.at", { time: date(new Date(Date.now() + 1000 * one.due_in).toISOString()) });
  return told("train.trigger", one);
}

/** How long annotators can go on without the policy server. */
function buffer(stats) {
  if (!stats.buffer) return null;
  const { pairs, minutes } = stats.buffer;
  const words = t("train.buffer", { n: pairs });
  return h("span", { class: "sub" }, minutes ? t("train.buffer.lasts", { buffer: words, span: span(60 * minutes) }) : words);
}
