// Own progress in the top bar; pace, streak, the team and what the picks have trained behind it.

import { $, h, replace } from "./dom.js";
import { number, t } from "./i18n.js";

/** `progress` is that of the API; null leaves what is shown. */
export function showProgress(progress) {
  if (!progress) return;
  const slot = $("#top-slot");
  if (!$("#progress")) slot.append(...frame());
  const { today, goal } = progress;
  replace($("#progress"),
    h("span", {}, t(goal ? "progress.of_goal" : "progress.today", { today, goal })),
    goal ? h("span", { class: "bar", "aria-hidden": "true" }, h("i", { style: `width:${Math.min(100, (100 * today) / goal)}%` })) : null,
    progress.median_seconds ? h("span", { class: "wide" }, t("progress.pace", { seconds: seconds(progress.median_seconds) })) : null);
  replace($("#progress-card"), card(progress));
}

function frame() {
  return [
    h("button", { type: "button", id: "progress", popovertarget: "progress-card" }),
    h("div", { id: "progress-card", popover: "auto", class: "top-card" }),
  ];
}

function card({ total, median_seconds, streak_days, team, trained }) {
  const facts = [
    ["progress.total", number(total)],
    median_seconds && ["progress.median", t("progress.seconds", { seconds: seconds(median_seconds) })],
    streak_days > 0 && ["progress.streak", t("progress.days", { n: streak_days })],
    team && ["progress.team", t("progress.team_line", { n: team.annotators, today: team.today, total: team.total })],
  ].filter(Boolean);
  return [
    h("dl", { class: "facts" }, facts.map(([key, value]) => h("div", {}, h("dt", {}, t(key)), h("dd", {}, value)))),
    trained ? h("p", { class: "trained" }, trainedSentence(trained)) : null,
    team?.board ? board(team.board) : null,
  ];
}

/** Ties count as half a win, as the gate counts them. */
function trainedSentence({ policy_id, wins, losses, ties }) {
  const duels = wins + losses + (ties ?? 0);
  if (!duels) return t("progress.trained", { policy: policy_id });
  const share = number((wins + (ties ?? 0) / 2) / duels, { style: "percent" });
  return t("progress.trained_won", { policy: policy_id, share });
}

function board(rows) {
  return h("ol", { class: "board" }, rows.map(({ name, today }) => h("li", {}, h("span", {}, name), h("b", {}, number(today)))));
}

const seconds = (value) => number(value, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
