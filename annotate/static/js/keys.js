// Keys. Never while typing, never on repeat, never with a modifier of the system, never while a dialog
// is open, and never from inside what a model or a stranger wrote.

import * as prefs from "./prefs.js";

const SINGLE = /^(.|Shift\+.|Arrow.*)$/; // keys that somebody who speaks or trembles hits unawares
const TYPING = "input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]:not([contenteditable=false])";
const OTHERS = ".others-text";

/** `table()` gives {name: handler(desk, event)} at each key; a handler's false leaves it to the browser. */
export function listen(table, desk) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || !ours(event)) return;
    const handlers = table();
    const name = keyName(event);
    if (SINGLE.test(name) && !prefs.get("keys")) return;
    if (!Object.hasOwn(handlers, name) || handlers[name](desk, event) === false) return;
    event.preventDefault();
  });
}

/**
 * "1", "Shift+1", "s", "?", "ArrowLeft", ...: letters and digits by what the key says, or, where its
 * layout says something else there, by its place on the keyboard.
 */
export function keyName({ key, code = "", shiftKey = false }) {
  if (key === "?" || key === "？") return "?";
  const digit = /^[0-9]$/.test(key) ? key : code.match(/^(?:Digit|Numpad)([0-9])$/)?.[1];
  if (digit && (key.length === 1 || key === "Dead")) return shiftKey ? `Shift+${digit}` : digit;
  if (/^[a-z]$/i.test(key)) return key.toLowerCase();
  const letter = key.length === 1 && key > "\u007f" && code.match(/^Key([A-Z])$/)?.[1];
  return letter ? letter.toLowerCase() : key;
}

function ours(event) {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return false;
  if (document.querySelector("dialog[open], [popover]:popover-open")) return false;
  const at = event.target instanceof Element ? event.target : document.body;
  if (at.closest(TYPING) || at.parentElement?.closest(OTHERS)) return false;
  return !(at.matches("[type=radio]") && event.key.startsWith("Arrow"));
}
