"""Keep a few pairs of the champion ready for every active annotator.

The database is the buffer: a ready pair is one of the current champion that nobody has judged or
holds. When the champion changes, older pairs are no longer ready by definition, so a stale pair
cannot be served.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from store import pairs, policies, prompts
from store.database import Store
from store.prompts import Prompt
from store.rows import Completion, Invalid, PrefloopError
from train.policy.client import PolicyClient, Sampling

log = logging.getLogger(__name__)


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
        self.problem: str | None = None  # why nothing can be sampled right now, for the page

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
            except PrefloopError as error:  # vLLM is starting or down: the page says so
                made = self._pause(str(error))
            except Exception as error:  # the edge of the thread: a bug must be seen, and we go on
                log.exception("sampling failed")
                made = self._pause(f"Sampling failed ({type(error).__name__}).")
            if not made:
                self._wake.wait(2.0)

    def _pause(self, problem: str) -> int:
        self.problem = problem
        self._stopping.wait(1.0)
        return 0

    def _refill(self) -> int:
        """Sample one round of missing pairs; returns how many were stored."""
        champion = policies.champion(self.store)
        missing = target(self._active(), self.config) - pairs.ready(self.store)
        if champion is None or missing <= 0:
            return 0
        wanted = prompts.least_sampled(
            self.store, champion.policy_id, min(missing, 2 * self.config.parallel)
        )
        if not wanted:
            self.problem = (
                "The prompt pool is empty. "
                "A researcher can add prompts: prefloop import prompts FILE."
            )
            return 0
        made = sum(self._pool.map(lambda prompt: self._sample(champion.policy_id, prompt), wanted))
        self.problem = None
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

    def _active(self) -> int:
        oldest = time.monotonic() - self.config.active_s
        return sum(seen > oldest for seen in list(self._seen.values()))
