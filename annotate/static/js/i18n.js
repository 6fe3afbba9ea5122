// The page's language. Catalogues are flat JSON, one file per language; a key that one lacks is English.

const COOKIE = "prefloop_lang";
const FALLBACK = "en";
const pieces = JSON.parse(document.getElementById("skeleton")?.dataset.locales ?? "{}"); // {code: {name, url}}

let code = FALLBACK;
let sentences = {};
let english = {};

/** Fetches the catalogue of this reader and English; to be awaited before the first t(). */
export async function load() {
  code = wanted();
  const fallback = catalogue(FALLBACK);
  [english, sentences] = await Promise.all([fallback, code === FALLBACK ? fallback : catalogue(code)]);
  document.documentElement.lang = code;
}

/**
 * The sentence behind a key with its {names} filled in; the key itself where no catalogue has it.
 * With a number `n`, `key.one` and `key.other` are tried by the language's plural rules.
 */
export function t(key, values = {}) {
  const sentence = find(sentences, code, key, values.n) ?? find(english, FALLBACK, key, values.n) ?? key;
  return sentence.replace(/\{(\w+)\}/g, (hole, name) => (Object.hasOwn(values, name) ? shown(values[name]) : hole));
}

/** Whether any catalogue has this key: for words that come from the configuration. */
export const has = (key) => key in sentences || key in english;

export const language = () => code;

/** [code, own name] of each language there is a catalogue for. */
export const languages = () => Object.entries(pieces).map(([each, { name }]) => [each, name]);

/** Remembers the language for the server's pages too, and starts this page anew in it. */
export function setLanguage(chosen) {
  document.cookie = `${COOKIE}=${chosen}; path=/; max-age=31536000; samesite=lax`;
  location.reload();
}

/** 12345 -> "12,345"; options are those of Intl.NumberFormat. */
export const number = (value, options) => new Intl.NumberFormat(code, options).format(value);

/** An ISO time of the server (UTC) as date and time here. */
export const date = (iso, options = { dateStyle: "medium", timeStyle: "short" }) =>
  new Intl.DateTimeFormat(code, options).format(new Date(iso));

/**
 * Sentences of the server, which are English, in the reader's language: every one that stands in the
 * English catalogue under `prefix`, wherever it occurs in `text`. What is not known stays English.
 */
export function retold(prefix, text) {
  if (code === FALLBACK) return text;
  const told = patterns(prefix).reduce((words, [key, pattern]) => words.replace(pattern, (...found) => t(key, found.at(-1) ?? {})), text);
  return told.replace(/(?<=[。：；，]) /g, "");
}

const compiled = new Map();

/** [key, expression with a named group for each hole], the longest sentence first. */
function patterns(prefix) {
  if (!compiled.has(prefix)) {
    const known = Object.entries(english).filter(([key]) => key.startsWith(`${prefix}.`)).sort(([, one], [, other]) => other.length - one.length);
    compiled.set(prefix, known.map(([key, words]) => [key, new RegExp(words.replace(/[.*+?^$()|[\]\\]/g, "\\$&").replace(/\{(\w+)\}/g, "(?<$1>.+?)") + "(?=\\s|$)", "g")]));
  }
  return compiled.get(prefix);
}

function find(catalogue, locale, key, n) {
  const plural = typeof n === "number" ? catalogue[`${key}.${new Intl.PluralRules(locale).select(n)}`] : undefined;
  return plural ?? catalogue[key] ?? catalogue[`${key}.other`];
}

const shown = (value) => (typeof value === "number" ? number(value) : String(value));

async function catalogue(each) {
  if (!pieces[each]) return {};
  const answer = await fetch(pieces[each].url);
  return answer.ok ? answer.json() : {};
}

function wanted() {
  const chosen = document.cookie.match(new RegExp(`(?:^|; )${COOKIE}=([\\w-]+)`))?.[1];
  const known = Object.keys(pieces);
  for (const each of [chosen, ...navigator.languages].filter(Boolean)) {
    const match = known.find((one) => one === each) ?? known.find((one) => one.split("-")[0] === each.split("-")[0]);
    if (match) return match;
  }
  return FALLBACK;
}
