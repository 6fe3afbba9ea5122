// What the server says about runs: asked for often while something runs, and rarely otherwise. Of a
// run's lines only the new ones are fetched.
import { call, sentence } from "./api.js";
import { LIVE } from "./train_words.js";

const BUSY_MS = 1500;
const IDLE_MS = 20_000; // a round may start by itself
const STATS_MS = 10_000;
const PAGE = 60; // runs

export class Feed {
  runs = []; // newest first
  queue = []; // ids of those that wait, oldest first
  stats = null;
  more = false; // whether there are older runs
  trouble = ""; // why there is no news, for the reader
  #lines = new Map(); // run id -> {lines, next, seen}
  #details = new Map(); // run id -> {seen, detail}
  #watched = [];
  #focus = null;
  #statsAt = 0;
  #timer = 0;
  #looking = null;
  #again = false;
  #limit = PAGE;

  /** `onNews` runs after every look at the server. */
  constructor(onNews) {
    this.onNews = onNews;
    document.addEventListener("visibilitychange", () => !document.hidden && this.look());
  }

  run = (id) => this.runs.find((run) => run.run_id === id) ?? this.detail(id) ?? this.#olderPart(id);
  lines = (id) => this.#lines.get(id)?.lines ?? [];
  detail = (id) => this.#details.get(id)?.detail ?? null;
  /** Of a round that is older than the list its details have them. */
  parts(id) {
    const listed = this.runs.filter((run) => run.parent_run_id === id).reverse();
    const told = this.detail(id)?.parts ?? [];
    return told.length > listed.length ? told : listed;
  }
  tops = () => this.runs.filter((run) => !run.parent_run_id || !this.runs.some((one) => one.run_id === run.parent_run_id));

  /** The runs whose lines are wanted: of a round those of its parts. */
  leaves = (id) => (this.run(id)?.kind === "round" ? this.parts(id).map((run) => run.run_id) : [id]);

  #olderPart(id) {
    return [...this.#details.values()].flatMap(({ detail }) => detail.parts ?? []).find((run) => run.run_id === id) ?? null;
  }

  get busy() {
    return this.runs.some((run) => LIVE.includes(run.status));
  }

  /** Lists older runs, too. */
  older() {
    this.#limit = Math.min(1000, 2 * this.#limit);
    return this.look();
  }

  /** Whose lines and whose details are on the screen. */
  watch(ids, focus) {
    this.#watched = ids;
    this.#focus = focus;
    return this.look();
  }

  /** Looks now, and goes on looking. One look at a time: a second call comes right after it. */
  look() {
    this.#again = Boolean(this.#looking);
    this.#looking ??= this.#lookAround().finally(() => {
      this.#looking = null;
      clearTimeout(this.#timer);
      if (this.#again) this.look();
      else if (!document.hidden) this.#timer = setTimeout(() => this.look(), this.busy ? BUSY_MS : IDLE_MS);
    });
    return this.#looking;
  }

  async #lookAround() {
    try {
      Object.assign(this, await call("GET", `/runs?limit=${this.#limit}`));
      const stats = performance.now() - this.#statsAt > STATS_MS || !this.stats;
      const running = this.runs.filter((run) => run.status === "running" && run.kind !== "round").map((run) => run.run_id);
      await Promise.all([...this.#told().map((id) => this.fetchDetail(id)), stats && this.#fetchStats()]);
      const shown = [this.#focus, ...this.#watched].filter(Boolean);
      const wanted = new Set([...shown.flatMap(this.leaves), ...running]);
      await Promise.all([...wanted].map((id) => this.#fetchLines(id)));
      this.trouble = "";
    } catch (error) {
      this.trouble = sentence(error);
    }
    this.onNews();
  }

  /** Runs whose time left is on the screen, and the one that is looked at. */
  #told() {
    const running = this.tops().filter((run) => run.status === "running").map((run) => run.run_id);
    return [...new Set([this.#focus, ...running])].filter(Boolean);
  }

  async #fetchStats() {
    this.#statsAt = performance.now();
    this.stats = await call("GET", "/stats");
  }

  #sign(id) {
    const run = this.runs.find((one) => one.run_id === id);
    return run && `${run.status} ${run.changed}`;
  }

  async #fetchLines(id) {
    const known = this.#lines.get(id) ?? { lines: [], next: 0, seen: null };
    const sign = this.#sign(id);
    const over = known.seen === sign && !LIVE.includes(this.run(id)?.status);
    if (over) return;
    const after = known.seen === sign ? known.next : 0; // a run that was resumed may have gone back
    const { progress, next, from } = await call("GET", `/runs/${id}/progress?after=${after}`);
    const start = Math.min(from ?? after, known.lines.length);
    const lines = [...known.lines.slice(0, start), ...progress];
    this.#lines.set(id, { lines, next, seen: sign });
  }

  /** Settings, plan, warnings and the time left of one run; fetched again when it has changed. */
  async fetchDetail(id) {
    const known = this.#details.get(id);
    const sign = this.#sign(id);
    if (known && known.seen === sign && sign && !LIVE.includes(known.detail.status)) return known.detail;
    const detail = await call("GET", `/runs/${id}`);
    this.#details.set(id, { seen: sign, detail });
    return detail;
  }
}
