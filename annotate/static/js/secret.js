// A secret that is shown once, with a button that copies it.
import { h } from "./dom.js";
import { t } from "./i18n.js";

/** A read-only field named `label` and its copy button; `words` go to a screen reader by `say`. */
export function secret(label, text, say) {
  const input = h("input", { class: "secret", readonly: true, value: text, "aria-label": label, spellcheck: "false", onfocus: () => input.select() });
  const button = h("button", { class: "btn", type: "button", onclick: async () => {
    const done = await copied(input);
    button.textContent = t(done ? "secret.copied" : "secret.by_hand");
    say(t(done ? "secret.copied_long" : "secret.by_hand"));
    setTimeout(() => { button.textContent = t("secret.copy"); }, 3000);
  } }, t("secret.copy"));
  return h("div", { class: "secret-line" }, input, button);
}

/** Whether the clipboard has it; plain http has only the old way, which needs the field selected. */
async function copied(input) {
  input.focus();
  input.select();
  try {
    await navigator.clipboard.writeText(input.value);
    return true;
  } catch {
    return document.execCommand("copy");
  }
}
