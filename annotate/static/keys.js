// Keys and small page manners. Model text is on the page: nothing inside a pane or a prompt is ever
// taken for a control of ours, and no control of ours is looked up there.
(() => {
  "use strict";
  const LOOK_MS = 200; // a pick this soon after a new pair came cannot be about that pair
  const KEYS = {
    1: "pick-left", ArrowLeft: "pick-left", 2: "pick-right", ArrowRight: "pick-right",
    3: "pick-tie", 4: "pick-both-bad", s: "pick-skip", u: "undo",
  };
  const HINTS = {
    "pick-left": "1 ArrowLeft", "pick-right": "2 ArrowRight",
    "pick-tie": "3", "pick-both-bad": "4", "pick-skip": "S", undo: "U",
  };
  const OTHERS = ".others-text";
  let shownAt = 0;

  const ours = (selector) => [...document.querySelectorAll(selector)].find((e) => !e.parentElement.closest(OTHERS));

  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const at = event.target instanceof Element ? event.target : document.body;
    if (at.closest("input, textarea, select, [contenteditable]:not([contenteditable=false])")) return;
    if (at.parentElement?.closest(OTHERS)) return; // a control that model text brought along
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const button = Object.hasOwn(KEYS, key) && ours(`button[id="${KEYS[key]}"]`);
    if (!button || button.disabled) return;
    event.preventDefault();
    button.click();
  });

  // Before Gradio sees the click: the second half of a double click belongs to no pair.
  document.addEventListener("click", (event) => {
    const button = event.target instanceof Element && event.target.closest("button.pick");
    if (!button || button.closest(OTHERS)) return;
    if (event.detail > 1 || performance.now() - shownAt < LOOK_MS) {
      event.preventDefault();
      event.stopImmediatePropagation();
      return;
    }
    const side = { "pick-left": "left", "pick-right": "right" }[button.id];
    const pane = side && ours(`#pane-${side}`);
    pane?.classList.add("chosen");
    if (pane) setTimeout(() => pane.classList.remove("chosen"), 1500); // the pick may be refused
  }, true);

  document.addEventListener("click", async (event) => {
    const link = event.target instanceof Element && event.target.closest("a.sign-out");
    if (!link || link.closest(OTHERS)) return;
    event.preventDefault();
    await fetch("/sign-out", { method: "POST", redirect: "manual" });
    location.assign("/sign-in");
  });

  // Gradio says nothing when a sign-in has ended; a pick must not vanish in silence.
  const plainFetch = window.fetch;
  window.fetch = async (...request) => {
    const answer = await plainFetch.apply(window, request);
    if (answer.status === 401) location.assign("/sign-in?ended=1");
    return answer;
  };

  const name = (selector, attributes) => {
    const element = ours(selector);
    for (const [key, value] of Object.entries(element ? attributes : {}))
      if (element.getAttribute(key) !== value) element.setAttribute(key, value);
  };

  // Gradio gives blocks no roles; they come and go, so this runs after each change of the page.
  const describe = () => {
    name("#topbar", { role: "banner" });
    name("#topbar nav", { "aria-label": "Pages" });
    name("#topbar nav a.here", { "aria-current": "page" });
    for (const link of document.querySelectorAll("#topbar a[target]")) link.removeAttribute("target");
    name("#prompt", { role: "region", "aria-label": "Prompt", tabindex: "0" });
    name("#pane-left", { role: "region", "aria-label": "Left answer" });
    name("#pane-right", { role: "region", "aria-label": "Right answer" });
    name("#pane-left .answer", { tabindex: "0" });
    name("#pane-right .answer", { tabindex: "0" });
    name("#actions", { role: "toolbar", "aria-label": "Your pick" });
    name("#status", { role: "status", "aria-live": "polite" });
    for (const text of document.querySelectorAll(".pane > .answer .md.prose:not([dir])")) text.dir = "auto";
    for (const [id, keys] of Object.entries(HINTS)) name(`button[id="${id}"]`, { "aria-keyshortcuts": keys });
  };

  // What a stranger wrote keeps its words but no look of its own, and no picture: the policy of this
  // page loads none, and a broken icon would hide what the picture was called.
  const tame = () => {
    for (const text of document.querySelectorAll(OTHERS)) {
      for (const look of ["style", "color", "bgcolor", "background", "face"])
        for (const element of text.querySelectorAll(`.md [${look}]`)) element.removeAttribute(look);
      for (const image of text.querySelectorAll(".md :not(.md) > img, .md > * > img")) { // Gradio holds on to the outermost
        const words = document.createElement("em");
        words.textContent = `[image: ${image.alt || image.getAttribute("src")}]`;
        image.replaceWith(words);
      }
    }
  };

  const newPair = () => {
    shownAt = performance.now();
    for (const side of ["left", "right"]) {
      ours(`#pane-${side}`)?.classList.remove("chosen");
      const answer = ours(`#pane-${side} .answer`);
      if (answer) answer.scrollTop = 0;
    }
    const prompt = ours("#prompt");
    const turn = prompt && [...prompt.querySelectorAll(".turn")].at(-1); // the one to answer
    if (prompt) prompt.scrollTop = turn ? turn.offsetTop - prompt.offsetTop : 0;
    if (matchMedia("(max-width: 760px)").matches) window.scrollTo(0, 0);
  };

  new MutationObserver((changes) => {
    describe();
    tame();
    const touched = (change) => change.target instanceof Element
      ? change.target.closest(OTHERS) || [...change.addedNodes].some((n) => n instanceof Element && n.querySelector(OTHERS))
      : change.target.parentElement?.closest(OTHERS);
    if (changes.some(touched)) newPair();
  }).observe(document.documentElement, { childList: true, subtree: true, characterData: true });
  describe();
})();
