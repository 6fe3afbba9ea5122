"""Keep a few pairs of the champion ready for every active annotator.

The database is the buffer: a ready pair is one of the current champion that nobody has judged or
holds. When the champion changes, older pairs are no longer ready by definition; one that is on
somebody's screen stays and can still be judged.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from store import pairs, policies, prompts
from store.database import Store
from store.prompts import Prompt
from store.rows import Completion, Invalid, PrefloopError
from train.policy.client import GenerationFailed, PolicyClient, PromptRefused, Sampling

log = logging.getLogger(__name__)
MISSES = 3  # tries in a row without a pair, after which a prompt waits until the others have too


@dataclass(frozen=True)
class SamplerConfig:
    ready: int = 4  # pairs kept ready for each active annotator; a person takes about 20 s for one
    active_s: int = 300  # an annotator who asked for a pair this recently is active
    parallel: int = 4  # requests to vLLM at the same time
    lease_s: int = 600  # a pair shown but not judged returns to the pool
    temperature: float = 1.0  # two samples of one policy must differ
    top_p: float = 1.0
    max_tokens: int = 256

    def __post_init__(self) -> None:
        for key in ("ready", "active_s", "parallel", "lease_s", "max_tokens"):
            if getattr(self, key) < 1:
                raise Invalid(f"sampler.{key} must be at least 1, not {getattr(self, key)}.")
        if not (self.temperature > 0 and 0 < self.top_p <= 1):
            raise Invalid("sampler.temperature must be above 0, and top_p above 0 and at most 1.")


def target(active: int, config: SamplerConfig) -> int:
    """Pairs to keep ready; some also when nobody is there, so that the first click finds one."""
    return config.ready * max(1, active)


def is_worth_showing(a: Completion, b: Completion) -> bool:
    """Identical and empty completions teach nothing."""
    return bool(a.text.strip()) and bool(b.text.strip()) and a.text.strip() != b.text.strip()


class Sampler:
    """`start()`; `wake()` when a pair was taken or the champion changed; `stop()`."""

    def __init__(
        self, store: Store, client: PolicyClient, config: SamplerConfig, seed: int | None = None
    ) -> None:
        self.store, self.client, self.config = store, client, config
        self.sampling = Sampling(config.temperature, config.top_p, config.max_tokens)
        self._random = random.Random(seed)
        self._seen: dict[str, float] = {}  # user id: monotonic time of the last request
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(config.parallel, thread_name_prefix="sample")
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._tried_by: str | None = None  # the policy that the next two are about
        self._refused: set[str] = set()  # ids of prompts that vLLM cannot answer
        self._misses: Counter[str] = Counter()  # prompt id: tries in a row without a pair
        self._problem: str | None = None  # said in the log, so that it stands there once
        self.out_of_prompts = False  # the pool is empty, or nothing in it gives a pair

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._pool.shutdown()

    def active(self, user_id: str) -> None:
        """This annotator wants pairs."""
        self._seen[user_id] = time.monotonic()
        self._wake.set()

    def wake(self) -> None:
        self._wake.set()

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
            log.warning("no pairs can be sampled: %s", problem)
        self._problem = problem
        self._stopping.wait(1.0)
        return 0

    def _refill(self) -> int:
        """Sample one round of missing pairs; returns how many were stored."""
        champion = policies.champion(self.store)
        missing = target(self._active(), self.config) - pairs.ready(self.store)
        if champion is None or missing <= 0:
            return 0
        if champion.policy_id != self._tried_by:
            self._tried_by, self._refused, self._misses = champion.policy_id, set(), Counter()
        tired = {prompt_id for prompt_id, missed in self._misses.items() if missed >= MISSES}
        wanted = prompts.least_sampled(
            self.store,
            champion.policy_id,
            min(missing, 2 * self.config.parallel),
            without=[*self._refused, *tired],
        )
        self.out_of_prompts = not wanted
        if not wanted:
            self._misses.clear()  # another try may give two texts that differ
        made = self._sample_all(champion.policy_id, wanted)
        self._problem = None
        return made

    def _sample_all(self, policy_id: str, wanted: list[Prompt]) -> int:
        """How many pairs were stored. Raises GenerationFailed, once the others have ended."""
        tries = [(prompt, self._pool.submit(self._sample, policy_id, prompt)) for prompt in wanted]
        made = 0
        failed: GenerationFailed | None = None
        for prompt, attempt in tries:
            try:
                stored = attempt.result()
            except PromptRefused as refusal:
                self._refused.add(prompt.prompt_id)
                log.warning("prompt %s is left out: %s", prompt.prompt_id, refusal)
            except GenerationFailed as error:
                failed = error
            else:
                made += stored
                self._note(prompt, stored)
        if failed:
            raise failed
        return made

    def _sample(self, policy_id: str, prompt: Prompt) -> bool:
        seed = self._random.randrange(0, 2**31, 2)  # a pair uses seed and seed + 1
        sampled = self.client.sample(
            policy_id, prompt.messages, n=2, seed=seed, sampling=self.sampling
        )
        a, b = sampled.completions
        if not is_worth_showing(a, b):
            return False
        pairs.add(self.store, prompt.prompt_id, sampled.prompt_token_ids, a, b)
        return True

    def _note(self, prompt: Prompt, stored: bool) -> None:
        if stored:
            self._misses.pop(prompt.prompt_id, None)
            return
        self._misses[prompt.prompt_id] += 1
        if self._misses[prompt.prompt_id] == MISSES:
            log.info("prompt %s waits: its answers are empty or the same", prompt.prompt_id)

    def _active(self) -> int:
        oldest = time.monotonic() - self.config.active_s
        return sum(seen > oldest for seen in list(self._seen.values()))
