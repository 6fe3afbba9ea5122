// Answers that come line by line (NDJSON).

import { ApiError } from "./api.js";

const STALLED_MS = 60_000; // without a word of either answer

/** Each line of a Response as parsed JSON, as it comes. Throws ApiError when the stream breaks off. */
export async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await soon(reader.read());
      const whole = (rest + (value ?? "")).split("\n");
      rest = done ? "" : whole.pop();
      for (const line of whole) if (line.trim()) yield parsed(line);
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {}); // also when the reader of the lines stops early
  }
}

function parsed(line) {
  try {
    return JSON.parse(line);
  } catch {
    throw new ApiError(0, { code: "offline", message: "The answer broke off." });
  }
}

/** What a read resolves to, unless it fails or takes too long. */
async function soon(read) {
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new ApiError(0, { code: "timeout", message: "The answer stopped coming." })), STALLED_MS);
  });
  try {
    return await Promise.race([read, late]);
  } catch (error) {
    throw error instanceof ApiError ? error : new ApiError(0, { code: "offline", message: String(error.message) });
  } finally {
    clearTimeout(timer);
  }
}
