// Picks that the server has not confirmed. They are in localStorage before they are sent, so that they
// outlive a lost connection, a restart of the server and this page; the server knows their ids, so
// that one sent twice is stored once.

import { ApiError, call } from "./api.js";
import { pause, waits } from "./patience.js";

const PREFIX = "prefloop.pick."; // one key per pick: tabs never overwrite each other's
const LOCK = "prefloop-picks"; // one tab sends at a time
const DECIDED = [404, 409, 422]; // the server will never take this pick
const BROKEN = 500; // the server failed over this very pick: it may do so each time
const MOST_FAILURES = 5; // of those in a row

export class Outbox {
  #channel = new BroadcastChannel(LOCK);
  #unkept = new Map(); // picks that localStorage would not take (full, forbidden)

  constructor() {
    this.storedElsewhere = () => {}; // (pair id) another tab stored a pick
    this.#channel.onmessage = ({ data }) => this.storedElsewhere(data);
  }

  add(user, body) {
    const entry = { user, at: Date.now(), body };
    try {
      localStorage.setItem(PREFIX + body.id, JSON.stringify(entry));
    } catch {
      this.#unkept.set(body.id, entry);
    }
  }

  /** Ids of one user's picks, oldest first. */
  of(user) {
    const ids = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX)).map((key) => key.slice(PREFIX.length));
    const entries = ids.map((id) => ({ id, ...this.#read(id) })).filter((entry) => entry.user === user);
    return entries.sort((one, other) => one.at - other.at).map((entry) => entry.id);
  }

  /**
   * Sends one pick until the server has decided. Resolves to the server's answer, to {} when another
   * tab sent it meanwhile, or to {kept: pair id} when the server failed over it `failures` times in
   * a row: it stays here for the next page. Throws ApiError when it was refused. `waiting` is called
   * after each try that got no decision.
   */
  async deliver(id, waiting, failures = MOST_FAILURES) {
    let failed = 0;
    for (const wait of waits()) {
      const answer = await alone(() => this.#send(id));
      if (!(answer instanceof ApiError)) return answer;
      failed = answer.status === BROKEN ? failed + 1 : 0;
      if (failed >= failures) return { kept: this.#read(id).body.pair_id };
      waiting();
      await pause(wait);
    }
  }

  /** The answer; {} when the pick is no longer here; an ApiError to try again after. */
  async #send(id) {
    const entry = this.#read(id);
    if (!entry) return {};
    try {
      const answer = await call("POST", "/desk/judgments", entry.body);
      this.#remove(id);
      this.#channel.postMessage(entry.body.pair_id);
      return answer;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.passing) return error;
      if (DECIDED.includes(error.status)) this.#remove(id);
      throw error;
    }
  }

  #remove(id) {
    this.#unkept.delete(id);
    localStorage.removeItem(PREFIX + id);
  }

  #read(id) {
    const kept = localStorage.getItem(PREFIX + id);
    return kept ? JSON.parse(kept) : this.#unkept.get(id);
  }
}

/** A random uuid; crypto.randomUUID exists on https and localhost only. */
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

// Locks exist on https and localhost only; without them the server's ids still prevent doubles.
const alone = (work) => (navigator.locks ? navigator.locks.request(LOCK, work) : work());
