// Words for a past pick: what was picked, and how long ago.

import { language, t } from "./i18n.js";

const UNITS = [["day", 86_400], ["hour", 3600], ["minute", 60]];

/** "Left is better, much", "Best 2, worst 4", "Tie". */
export function verdictLabel({ verdict, strength, best, worst }) {
  if (verdict === "ranked") return t("picks.ranked", { best: best + 1, worst: worst + 1 });
  const label = t(`pick.${verdict}`);
  return strength ? t("picks.by", { verdict: label, strength: t(`details.strength.${strength}`).toLowerCase() }) : label;
}

/** An ISO time in words: "3 minutes ago", "yesterday". `now` in milliseconds. */
export function ago(iso, now = Date.now()) {
  const seconds = Math.max(0, (now - Date.parse(iso)) / 1000);
  const [unit, size] = UNITS.find(([, length]) => seconds >= length) ?? ["second", 60];
  return new Intl.RelativeTimeFormat(language(), { numeric: "auto" }).format(-Math.floor(seconds / size), unit);
}
