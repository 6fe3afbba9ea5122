// The HTTP API with the session cookie. Every error is an ApiError with a code to decide by.

import { has, language, t } from "./i18n.js";

const TIMEOUT_MS = 8000;
const GENERAL = ["conflict", "not_found", "invalid", "unavailable"]; // codes of many sentences

export class ApiError extends Error {
  /**
   * `status` 0: no answer came; `code` is then "offline" or "timeout". The sentence of the server has
   * a `key` and `values` where the catalogues have it, too.
   */
  constructor(status, { code = "error", message, key, values }) {
    super(message);
    Object.assign(this, { name: "ApiError", status, code, key, values });
  }

  /** Whether the same request may succeed later. */
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/** `path` is relative to /api/v1. Resolves to the parsed JSON (null for 204) or throws ApiError. */
export async function call(method, path, body) {
  const answer = await send(method, path, body, AbortSignal.timeout(TIMEOUT_MS));
  if (answer.status === 204) return null;
  return answer.json().catch(() => {
    throw new ApiError(0, { code: "offline", message: "The answer broke off." });
  });
}

/** As call(), but gives the Response: for texts and streams. Throws ApiError unless it is 2xx. */
export async function send(method, path, body, signal) {
  const options = { method, signal, headers: { accept: "application/json" } };
  if (body !== undefined) {
    options.headers["content-type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(`/api/v1${path}`, options).catch((cause) => {
    const timeout = cause.name === "TimeoutError";
    throw new ApiError(0, { code: timeout ? "timeout" : "offline", message: String(cause.message) });
  });
  if (answer.ok) return answer;
  if (answer.status === 401) location.assign("/sign-in?ended=1");
  const { error } = await answer.json().catch(() => ({}));
  throw new ApiError(answer.status, error ?? { message: answer.statusText });
}

/** What to tell the reader about an error, in their language where the catalogues have a sentence. */
export function sentence(error) {
  if (has(`error.${error.key}`)) return t(`error.${error.key}`, error.values);
  const inEnglish = GENERAL.includes(error.code) && language() === "en" && error.message; // says more than its code
  return inEnglish || (has(`error.${error.code}`) ? t(`error.${error.code}`) : error.message || t("error.error"));
}
