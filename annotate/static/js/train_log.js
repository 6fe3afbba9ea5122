// The end of a run's log. It follows what is written as long as the reader is at its end.
import { call, sentence } from "./api.js";
import { $, h, replace } from "./dom.js";
import { t } from "./i18n.js";
import { LIVE } from "./train_words.js";

const LINES = 400;
let asking = 0; // the number of the question at hand; 0 when none is
let serial = 0;
let seen = ""; // the run and its state when it was last asked for

export async function show(panel, feed, run, view, fresh) {
  const sign = `${run.run_id} ${run.status}`; // a run that has just ended has last words
  if (!fresh && (asking || (!LIVE.includes(run.status) && seen === sign))) return;
  const mine = (asking = serial += 1);
  const { log, problem } = await call("GET", `/runs/${run.run_id}/log?lines=${LINES}`).catch((error) => ({ log: "", problem: sentence(error) }));
  if (mine !== asking) return;
  asking = 0;
  if (view.stale()) return;
  seen = sign;
  let text = $("pre.log", panel);
  if (!text) {
    text = h("pre", { class: "log", tabindex: "0", "aria-label": t("train.log") }, h("code"));
    replace(panel, h("div", { class: "tools" }, h("p", { class: "sub" }, t("train.log.what", { n: LINES })),
      h("button", { type: "button", class: "btn small", dataset: { do: "copy", from: "pre.log" } }, t("train.copy"))), text);
  }
  const atEnd = text.scrollHeight - text.scrollTop - text.clientHeight < 40;
  const words = problem ?? (log || t("train.log.none"));
  if (text.firstChild.textContent !== words) text.firstChild.textContent = words;
  if (atEnd || fresh) text.scrollTop = text.scrollHeight;
}
