// Manners of the research page, whose content Gradio draws: names and roles that Gradio does not
// give, the language of the page, the theme that was chosen elsewhere, signing out, and a sign-in that ended.
import { $ } from "./dom.js";
import { apply } from "./prefs.js";

const NAMES = {
  "#confirm": { role: "group", "aria-labelledby": "question" },
};

// Blocks come and go, so this runs after each change of the page.
function describe() {
  for (const [selector, attributes] of Object.entries(NAMES))
    for (const [name, value] of Object.entries(attributes))
      if ($(selector)?.getAttribute(name) !== value) $(selector)?.setAttribute(name, value);
  const head = $("#topbar .line"); // the server knows the reader's language
  if (head && document.documentElement.lang !== head.lang) {
    document.documentElement.lang = head.lang;
    document.title = `${$("h1", head).textContent} · prefloop`;
  }
  for (const link of document.querySelectorAll("#topbar a[target]")) link.removeAttribute("target"); // Gradio's idea
}

document.addEventListener("click", async (event) => {
  if (!event.target.closest?.("a.sign-out")) return;
  event.preventDefault();
  await fetch("/sign-out", { method: "POST", redirect: "manual" });
  location.assign("/sign-in");
});

// Gradio says nothing when a sign-in has ended.
const plainFetch = window.fetch;
window.fetch = async (...request) => {
  const answer = await plainFetch(...request);
  if (answer.status === 401) location.assign("/sign-in?ended=1");
  return answer;
};

apply();
new MutationObserver(describe).observe(document.body, { childList: true, subtree: true });
describe();
