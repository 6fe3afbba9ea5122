"""Keep a few pairs of the champion ready for every active annotator, of the pools they may take.

The database is the buffer: a ready pair is one of the current champion that nobody has judged or
holds. When the champion changes, older pairs are no longer ready by definition; one that is on
somebody's screen stays and can still be judged. Turns of conversations are sampled when asked for.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from annotate.supply import SIDES, Buffer, Overlap, Seat, buffer, is_worth_showing, targets
from store import pairs, policies, pools, prompts, statistics
from store.database import Store
from store.pools import Pool
from store.prompts import Prompt
from store.rows import Invalid, PrefloopError, User
from train.policy.client import GenerationFailed, PolicyClient, PromptRefused, Sampling

log = logging.getLogger(__name__)
MISSES = 3  # tries in a row without a pair, after which a prompt waits until the others have too


@dataclass(frozen=True)
class SamplerConfig:
    ready: int = 4  # pairs kept ready for each active annotator; a person takes about 20 s for one
    stock: int = 24  # the same, made before vLLM stands aside for a run
    active_s: int = 300  # an annotator who asked for a pair this recently is active
    parallel: int = 16  # requests to vLLM at the same time; each takes two places of its batch
    lease_s: int = 600  # a pair shown but not judged returns to the pool
    temperature: float = 1.0  # two samples of one policy must differ
    top_p: float = 1.0
    max_tokens: int = 256

    def __post_init__(self) -> None:
        if self.ready < 0:
            raise Invalid("sampler.ready must be at least 0; 0 samples only while somebody waits.")
        if self.stock < 0:
            raise Invalid("sampler.stock must be at least 0; what is below ready has no effect.")
        for key in ("active_s", "parallel", "lease_s", "max_tokens"):
            if getattr(self, key) < 1:
                raise Invalid(f"sampler.{key} must be at least 1, not {getattr(self, key)}.")
        if not (self.temperature > 0 and 0 < self.top_p <= 1):
            raise Invalid("sampler.temperature must be above 0, and top_p above 0 and at most 1.")


@dataclass(frozen=True)
class _Seen:
    user: User
    at: float  # monotonic
    waiting: bool  # found no pair


class Sampler:
    """`start()`; `wake()` when a pair was taken or the champion changed; `stop()`."""

    def __init__(
        self,
        store: Store,
        client: PolicyClient,
        config: SamplerConfig,
        overlap: Overlap | None = None,
        seed: int | None = None,
    ) -> None:
        self.store, self.client, self.config = store, client, config
        self.overlap = overlap or Overlap()
        self.sampling = Sampling(config.temperature, config.top_p, config.max_tokens)
        self.out_of_prompts: frozenset[str] = frozenset()  # pools that are empty or give no pair
        self._random = random.Random(seed)
        self._seen: dict[str, _Seen] = {}  # by user id
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(config.parallel, thread_name_prefix="sample")
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._tried_by: str | None = None  # the policy that the next two are about
        self._refused: set[str] = set()  # ids of prompts that vLLM cannot answer
        self._misses: Counter[tuple[str, str]] = Counter()  # pool, prompt: tries without a pair
        self._problem: str | None = None  # said in the log, so that it stands there once
        self._worked = False  # ever
        self._stocking = False

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._pool.shutdown()

    def active(self, user: User, *, waiting: bool = False) -> None:
        """This annotator wants pairs; `waiting`: there was none."""
        self._seen[user.user_id] = _Seen(user, time.monotonic(), waiting)
        self._wake.set()

    def waits(self, user: User) -> bool:
        """Whether this annotator found no pair the last time."""
        seen = self._seen.get(user.user_id)
        return seen is not None and seen.waiting

    def wake(self) -> None:
        self._wake.set()

    def stock_up(self, timeout_s: float) -> bool:
        """Make pairs for a while without vLLM; whether they are there when this returns."""
        if not self._thread.is_alive():
            return True  # a command without annotators
        deadline = time.monotonic() + timeout_s
        self._stocking = True
        try:
            while time.monotonic() < deadline and not self._stopping.is_set():
                self._wake.set()
                # A pool without prompts always lacks one.
                if not self._missing(pools.everyone(self.store)).keys() - self.out_of_prompts:
                    return True
                self._stopping.wait(0.2)
            return False
        finally:
            self._stocking = False

    def buffer(self) -> Buffer:
        """What annotators have while vLLM is away."""
        ready = sum(pairs.ready_by_pool(self.store).values())
        annotators = len(self._at_work())
        seconds = statistics.picks(self.store).median_seconds
        return buffer(ready, annotators, seconds, self.overlap.screens(annotators))

    def seed(self, n: int) -> int:
        """Of a request for n completions, which uses n seeds from this one on."""
        return self._random.randrange(0, 2**31, n)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                made = self._refill()
            except PrefloopError as error:  # vLLM is starting or down
                made = self._pause(str(error))
            except Exception:  # the edge of the thread: a bug must be seen, and we go on
                log.exception("sampling failed")
                made = self._pause(None)
            if not made:
                self._wake.wait(2.0)

    def _pause(self, problem: str | None) -> int:
        if problem and problem != self._problem:
            # Every start begins with a vLLM that is not up yet.
            level = logging.WARNING if self._worked else logging.INFO
            log.log(level, "no pairs can be sampled: %s", problem)
        self._problem = problem
        self._stopping.wait(1.0)
        return 0

    def _refill(self) -> int:
        """Sample one round of missing pairs; returns how many were stored."""
        if self.client.traffic.resting:
            return 0
        champion = policies.champion(self.store)
        known = pools.everyone(self.store)
        missing = self._missing(known)
        if champion is None or not missing:
            return 0
        if champion.policy_id != self._tried_by:
            self._tried_by, self._refused, self._misses = champion.policy_id, set(), Counter()
        tasks = self._tasks(champion.policy_id, [p for p in known if p.pool_id in missing], missing)
        made = self._sample_all(champion.policy_id, tasks)
        self._problem, self._worked = None, self._worked or made > 0
        return made

    def _missing(self, known: Sequence[Pool]) -> dict[str, int]:
        """Pairs to sample now, by pool id."""
        ready = pairs.ready_by_pool(self.store)
        wanted = targets(self._seats(known), self.overlap, self.out_of_prompts)
        short = {pool_id: n - ready.get(pool_id, 0) for pool_id, n in wanted.items()}
        return {pool_id: n for pool_id, n in short.items() if n > 0}

    def _seats(self, known: Sequence[Pool]) -> list[Seat]:
        """Of the active annotators; one that takes every pool when nobody is there, so that the
        first click finds a pair."""
        ready = self.config.ready
        if self._stocking:
            ready = max(ready, self.config.stock)
        seats = [
            Seat(pools.for_user(known, seen.user), max(ready, int(seen.waiting)))
            for seen in self._at_work()
        ]
        return seats or [Seat([pool for pool in known if pool.active], ready)]

    def _at_work(self) -> list[_Seen]:
        oldest = time.monotonic() - self.config.active_s
        return [seen for seen in list(self._seen.values()) if seen.at > oldest]

    def _tasks(
        self, policy_id: str, short: Sequence[Pool], missing: dict[str, int]
    ) -> list[tuple[Pool, Prompt]]:
        """What to sample in this round: a part for each pool that lacks pairs."""
        most = max(1, 2 * self.config.parallel // len(short))
        tasks: list[tuple[Pool, Prompt]] = []
        out = set()
        for pool in short:
            tired = {
                prompt_id
                for (pool_id, prompt_id), missed in self._misses.items()
                if pool_id == pool.pool_id and missed >= MISSES
            }
            limit = min(missing[pool.pool_id], most)
            without = [*self._refused, *tired]
            found = prompts.least_sampled(self.store, policy_id, pool, limit, without)
            tasks += [(pool, prompt) for prompt in found]
            if not found:
                out.add(pool.pool_id)
                for prompt_id in tired:  # another try may give texts that differ
                    del self._misses[pool.pool_id, prompt_id]
        self.out_of_prompts = frozenset(out)
        return tasks

    def _sample_all(self, policy_id: str, tasks: Sequence[tuple[Pool, Prompt]]) -> int:
        """How many pairs were stored. Raises GenerationFailed, once the others have ended."""
        tries = [
            (pool, prompt, self._pool.submit(self._sample, policy_id, pool, prompt))
            for pool, prompt in tasks
        ]
        made = 0
        failed: GenerationFailed | None = None
        for pool, prompt, attempt in tries:
            try:
                stored = attempt.result()
            except PromptRefused as refusal:
                self._refused.add(prompt.prompt_id)
                log.warning("prompt %s is left out: %s", prompt.prompt_id, refusal)
            except GenerationFailed as error:
                failed = error
            else:
                made += stored
                self._note(pool, prompt, stored)
        if failed:
            raise failed
        return made

    def _sample(self, policy_id: str, pool: Pool, prompt: Prompt) -> bool:
        n = SIDES[pool.mode]
        sampled = self.client.sample(
            policy_id, prompt.messages, n=n, seed=self.seed(n), sampling=self.sampling
        )
        if not is_worth_showing(sampled.completions):
            return False
        pairs.add(
            self.store,
            prompt.prompt_id,
            sampled.prompt_token_ids,
            *sampled.completions,
            pool_id=pool.pool_id,
            wanted=self.overlap.of(pool).draw(self._random),
        )
        return True

    def _note(self, pool: Pool, prompt: Prompt, stored: bool) -> None:
        key = pool.pool_id, prompt.prompt_id
        if stored:
            self._misses.pop(key, None)
            return
        self._misses[key] += 1
        if self._misses[key] == MISSES:
            log.info("prompt %s waits: its answers are empty or the same", prompt.prompt_id)
