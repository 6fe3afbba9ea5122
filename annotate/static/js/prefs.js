// What this device remembers. A browser that keeps nothing (private window) still gets a working page.

const DEFAULTS = { theme: "auto", text: "m", keys: true, exact: false, together: false, guidelines: null, smoothing: 0.6, axis: "step" };
const ROOT_PX = { s: 14, m: 16, l: 18, xl: 20 };
const dark = matchMedia("(prefers-color-scheme: dark)");

export const THEMES = ["auto", "light", "dark"];
export const TEXT_SIZES = Object.keys(ROOT_PX);

export function get(name) {
  try {
    return JSON.parse(localStorage.getItem(`prefloop.${name}`)) ?? DEFAULTS[name];
  } catch {
    return DEFAULTS[name];
  }
}

export function set(name, value) {
  try {
    localStorage.setItem(`prefloop.${name}`, JSON.stringify(value));
  } catch {
    DEFAULTS[name] = value; // for this page at least
  }
}

/** Puts theme, text size and hints at keys on the page, also when the system's theme changes. */
export function apply() {
  const theme = get("theme") === "auto" ? (dark.matches ? "dark" : "light") : get("theme");
  document.documentElement.dataset.theme = theme;
  document.documentElement.dataset.keys = get("keys") ? "on" : "off";
  document.body.classList.toggle("dark", theme === "dark"); // Gradio's own parts follow this class
  document.documentElement.style.fontSize = `${ROOT_PX[get("text")] ?? ROOT_PX.m}px`;
}

dark.addEventListener("change", apply);
