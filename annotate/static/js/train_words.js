// How the training room says times, kinds, states and numbers.
import { figure } from "./curves.js";
import { has, language, number, retold, t } from "./i18n.js";

export const KINDS = ["round", "rm", "dpo", "kto", "sft"];
export const LIVE = ["queued", "running"];
const TONES = { running: "blue", queued: "", paused: "warn", done: "", failed: "bad", cancelled: "", promoted: "good", rejected: "bad" };

export const kindName = (kind) => t(`train.kind.${kind}`);

/** {words, tone} of the chip of a run: a round that is done says its verdict. */
export function state(run) {
  const key = run.status === "done" && run.verdict ? run.verdict : run.status;
  return { words: t(`research.state.${key}`), tone: TONES[key] ?? "" };
}

export function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return t("research.span.s", { s: whole });
  if (whole < 3600) return t("research.span.min", { min: Math.floor(whole / 60), s: whole % 60 });
  return t("research.span.h", { h: Math.floor(whole / 3600), min: Math.floor((whole % 3600) / 60) });
}

export function ago(iso) {
  const minutes = Math.floor((Date.now() - new Date(iso)) / 60_000);
  if (minutes < 1) return t("research.ago.now");
  if (minutes < 60) return t("research.ago.minute", { n: minutes });
  if (minutes < 48 * 60) return t("research.ago.hour", { n: Math.floor(minutes / 60) });
  return t("research.ago.day", { n: Math.floor(minutes / 1440) });
}

export const percent = (share, digits = 1) => number(share, { style: "percent", maximumFractionDigits: digits });

/** A share with its 95 % interval: "64.2% [58.1%, 69.9%]". */
export function interval(share, low, high) {
  if (typeof share !== "number") return "";
  const around = typeof low === "number" && typeof high === "number" ? ` [${percent(low)}, ${percent(high)}]` : "";
  return percent(share) + around;
}

/** Any value of a configuration as a text. */
export function plain(value) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : figure(value, language());
  if (typeof value === "boolean") return String(value);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** A sentence of the server: in the reader's language where the catalogues have its key. */
export function told(prefix, { key, values, message }) {
  const whole = `${prefix}.${key}`;
  return has(whole) || has(`${whole}.other`) ? t(whole, values ?? {}) : (message ?? "");
}

/** A reason of a run, a check of the gate, a problem of a plan: sentences without a key. */
export const why = (sentence) => retold("train.plan", retold("research.why", sentence));
