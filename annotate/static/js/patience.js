// Waiting for what may succeed later.

import { ApiError, sentence } from "./api.js";
import { t } from "./i18n.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;

/** How long to wait before each further try, in milliseconds. */
export function* waits() {
  for (let wait = FIRST_WAIT_MS; ; wait = Math.min(wait * 2, LONGEST_WAIT_MS)) yield wait;
}

/** Resolves after `ms`, or at once when the connection comes back. */
export function pause(ms) {
  return new Promise((resolve) => {
    const done = () => {
      removeEventListener("online", done);
      clearTimeout(timer);
      resolve();
    };
    const timer = setTimeout(done, ms);
    addEventListener("online", done);
  });
}

/**
 * Repeats a request that changes nothing until it succeeds. `tell` gets the sentence for the reader,
 * "" once all is well. Throws ApiError when repeating does not help.
 */
export async function patiently(request, tell) {
  for (const wait of waits()) {
    try {
      const answer = await request();
      tell("");
      return answer;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      tell(error.passing ? t("status.gone") : sentence(error));
      if (!error.passing) throw error;
      await pause(wait);
    }
  }
}
