// Time spent on a pair while its page was in sight.

const MAX_MS = 3_600_000; // a page left open over lunch says nothing about the pick

export class Clock {
  #shownAt = performance.now();
  #seenSince = performance.now();
  #seen = 0;

  constructor() {
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.#seen += performance.now() - this.#seenSince;
      else this.#seenSince = performance.now();
    });
  }

  /** A new pair is on the screen. */
  start() {
    this.#shownAt = this.#seenSince = performance.now();
    this.#seen = 0;
  }

  /** Milliseconds since the pair came. */
  sinceShown() {
    return performance.now() - this.#shownAt;
  }

  /** Whole milliseconds it was looked at; null when that is no measure any more. */
  spent() {
    const spent = Math.round(this.#seen + (document.hidden ? 0 : performance.now() - this.#seenSince));
    return spent > 0 && spent <= MAX_MS ? spent : null;
  }
}
