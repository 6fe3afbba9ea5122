// The HTTP API with the session cookie. Every error is an ApiError with a code to decide by.

import { has, t } from "./i18n.js";

const TIMEOUT_MS = 8000;

export class ApiError extends Error {
  /** `status` 0: no answer came; `code` is then "offline" or "timeout". */
  constructor(status, code, message) {
    super(message);
    Object.assign(this, { name: "ApiError", status, code });
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
    throw new ApiError(0, "offline", "The answer broke off.");
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
    throw new ApiError(0, timeout ? "timeout" : "offline", String(cause.message));
  });
  if (answer.ok) return answer;
  if (answer.status === 401) location.assign("/sign-in?ended=1");
  const { error } = await answer.json().catch(() => ({}));
  throw new ApiError(answer.status, error?.code ?? "error", error?.message ?? answer.statusText);
}

/** What to tell the reader about an error, in the reader's language where the catalogue knows its code. */
export function sentence(error) {
  const key = `error.${error.code}`;
  return has(key) ? t(key) : error.message || t("error.error");
}
