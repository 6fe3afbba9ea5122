// Keeps what is on the screen with its annotator while somebody is at work on it.

const ACTIVE_MS = 300_000; // since the last sign of a reader
const SIGNS = ["keydown", "pointerdown", "pointermove", "wheel", "scroll", "input"];

let seen = 0;
let timer = 0;

for (const sign of SIGNS) addEventListener(sign, () => (seen = performance.now()), { capture: true, passive: true });

const present = () => !document.hidden && performance.now() - seen < ACTIVE_MS;

/** Calls `renew` twice in each `seconds` that a lease lasts, from now on, while a reader is present. */
export function whilePresent(seconds, renew) {
  clearInterval(timer);
  seen = performance.now(); // they have just asked for it
  timer = setInterval(() => present() && renew(), seconds * 500);
}
