// What a run makes of the picks, as people read it: rows, rule, command.
import { h } from "./dom.js";
import { language, retold, t } from "./i18n.js";

/** The picks as a sentence and as a bar: what is trained on, held out and dropped; `steps` it takes. */
export function rows(plan, steps) {
  const pieces = plan.pieces ?? [];
  if (!pieces.length) return h("p", { class: "rows-told" }, t("train.rows_none"));
  const [colon, comma] = language().startsWith("zh") ? ["：", "，"] : [": ", ", "];
  const tone = (key) => (key.startsWith("dropped.") ? "dropped" : key === "held_out" ? "held" : "used");
  return h("div", { class: "rows-told" },
    h("p", {}, h("b", {}, t("train.piece.picks", { n: plan.picks })), colon,
      pieces.map((one, n) => [n > 0 && comma, h("span", { class: tone(one.key) }, t(`train.piece.${one.key}`, { n: one.n }))])),
    h("div", { class: "stack", "aria-hidden": "true" }, pieces.map((one) => h("i", { class: tone(one.key), style: `flex-grow: ${one.n}` }))),
    h("p", { class: "sub" }, t("train.rows", { train: plan.rows_train, held_out: plan.rows_eval }), steps > 0 && [comma, t("train.steps", { n: steps })]));
}

/** One sentence for each kind of pick. */
export function rule(sentences) {
  return h("dl", { class: "rule" }, Object.entries(sentences).map(([kind, words]) =>
    h("div", {}, h("dt", {}, t(`train.rule_of.${kind}`)), h("dd", {}, retold("train.rule", words)))));
}

/** A command in a box with a button that copies it. */
export function command(words) {
  return h("div", { class: "command" }, h("pre", { tabindex: "0", "aria-label": t("train.command") }, h("code", {}, words)),
    h("button", { type: "button", class: "btn small", dataset: { do: "copy", from: ".command code" } }, t("train.copy")));
}
