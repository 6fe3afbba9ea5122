"""Learn a taste outside of the app: real vLLM, store, training and gate, without web and people.

A bank of pairs is sampled once from the base and judged by each taste; what a policy learned is
counted on prompts that are in no bank.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import fmean, quantiles
from typing import Any

from annotate.tastes import TASTES, choose
from app import seed_prompts
from store import policies, runs
from store.database import Store
from store.importing import NewPreference, add_preferences
from store.rows import Completion, Message, Run, RunKind
from train.base_model import resolve
from train.gate import GateConfig, repeated_share
from train.interval import wilson
from train.policy.client import Sampling
from train.policy.registry import BASE_POLICY, PolicyRegistry
from train.policy.server import PolicyServer
from train.policy.vllm import PolicyConfig
from train.rounds import Rounds
from train.run_config import TrainConfig
from train.runs import Trainer
from train.starter.grammar import starter_prompts
from train.trial import Trial

TEST_PROMPTS = 200
DRAWS = 2  # pairs of the base from each prompt: of 1,000 picks some tastes need 2,700 pairs
BASE_ANSWERS = 3  # to each test prompt; all that a policy says there is held against each of them
PARALLEL = 32  # requests to vLLM
SAMPLING = Sampling()  # as annotators' pairs are sampled
PROBES = 16


def prompts() -> tuple[list[str], list[str]]:
    """Those to count on, which nobody annotates, and the others."""
    everything = starter_prompts()
    test = Random(99).sample(everything, TEST_PROMPTS)
    return test, [text for text in everything if text not in set(test)]


@contextmanager
def policy_server(log: Path) -> Iterator[PolicyServer]:
    config = PolicyConfig(max_sequences=2 * PARALLEL, kv_cache_mb=512)
    server = PolicyServer(config, resolve("starter"), log)
    server.start()
    try:
        server.wait_up(config.start_timeout_s)
        yield server
    finally:
        server.stop()


@dataclass(frozen=True)
class Pair:
    prompt: str
    a: str
    b: str


class Lab:
    """One data directory: its picks, its policies, its runs. `close()` leaves vLLM as it was."""

    def __init__(self, server: PolicyServer, folder: Path, seed: int) -> None:
        self.server = server
        self._opened = Store.open(folder)
        self.store = self._opened.__enter__()
        self.registry = PolicyRegistry(self.store, server)
        self.registry.prepare()
        seed_prompts(self.store)
        trainer = Trainer(self.store, server, TrainConfig(seed=seed))
        trial = Trial(self.store, self.registry, GateConfig(), SAMPLING, PROBES)
        self.rounds = Rounds(self.store, self.registry, trainer, trial, on_champion=lambda: None)

    def close(self) -> None:
        for policy in policies.everyone(self.store):
            self.server.unload(policy.policy_id)
        self._opened.__exit__(None, None, None)

    def pick(self, pairs: Sequence[NewPreference]) -> None:
        add_preferences(self.store, list(pairs))

    def run(self, kind: RunKind, settings: dict[str, Any]) -> Run:
        """Carry a run out, as the loop does. Raises SystemExit when it did not end well."""
        run_id = runs.add(self.store, kind, {"settings": settings}, None)
        runs.mark(self.store, run_id, "running")
        self.rounds.carry_out(runs.get(self.store, run_id))
        run = runs.get(self.store, run_id)
        if run.status != "done":
            raise SystemExit(f"{kind} {run.status}: {run.reason}")
        return run

    def answers(self, policy_id: str, seed: int, each: int = 1) -> list[list[Completion]]:
        """`each` to every test prompt."""
        self.registry.load(policy_id)
        return self._sample(policy_id, prompts()[0], each, 1000 + seed)

    def pairs(self, policy_id: str, asked: Sequence[str], seed: int) -> list[Pair]:
        """Two answers to each prompt, where they differ and both end by themselves."""
        found = []
        for prompt, (a, b) in zip(asked, self._sample(policy_id, asked, 2, seed), strict=True):
            whole = "length" not in (a.finish_reason, b.finish_reason)
            if whole and a.text.strip() and b.text.strip() and a.text != b.text:
                found.append(Pair(prompt, a.text, b.text))
        return found

    def _sample(
        self, policy_id: str, asked: Sequence[str], n: int, seed: int
    ) -> list[list[Completion]]:
        def one(place: int) -> list[Completion]:
            messages: list[Message] = [{"role": "user", "content": asked[place]}]
            own_seed = seed * 1_000_003 + n * place
            client = self.server.client
            return client.sample(
                policy_id, messages, n=n, seed=own_seed, sampling=SAMPLING
            ).completions

        with ThreadPoolExecutor(PARALLEL) as pool:
            return list(pool.map(one, range(len(asked))))


@dataclass(frozen=True)
class Bank:
    """What the base says, sampled once for a seed."""

    pairs: list[Pair]  # DRAWS of each prompt that is not tested on; first the first of each
    answers: list[list[str]]  # BASE_ANSWERS to each test prompt


def bank(server: PolicyServer, folder: Path, seed: int) -> Bank:
    """Sampled once and kept in a file."""
    folder.mkdir(exist_ok=True)
    file = folder / f"bank-{server.base.fingerprint[:12]}-{DRAWS}-{seed}.json"
    if not file.exists():
        file.write_text(json.dumps(asdict(sampled(server, seed))))
    kept = json.loads(file.read_text())
    return Bank([Pair(**row) for row in kept["pairs"]], kept["answers"])


def sampled(server: PolicyServer, seed: int) -> Bank:
    order = Random(seed).sample(prompts()[1], len(prompts()[1]))
    with tempfile.TemporaryDirectory() as folder, closing(Lab(server, Path(folder), seed)) as lab:
        said = lab.answers(BASE_POLICY, seed, BASE_ANSWERS)
        texts = [[one.text for one in answers] for answers in said]
        drawn = [lab.pairs(BASE_POLICY, order, seed + 500 * draw) for draw in range(DRAWS)]
    return Bank([pair for pairs in drawn for pair in pairs], texts)


def judged(
    pairs: Sequence[Pair], taste: str, picks: int, flips: float, seed: int
) -> tuple[list[NewPreference], int]:
    """The first `picks` pairs with a better side, and how many were tied before that."""
    rng, rows, ties = Random(seed * 1000 + 7), [], 0
    for pair in pairs:
        if len(rows) == picks:
            break
        verdict = choose(TASTES[taste], pair.a, pair.b, flips, rng)
        if verdict == "tie":
            ties += 1
            continue
        chosen, rejected = (pair.a, pair.b) if verdict == "left" else (pair.b, pair.a)
        message: Message = {"role": "user", "content": pair.prompt}
        rows.append(NewPreference([message], chosen, rejected))
    if len(rows) < picks:
        raise SystemExit(f"The bank holds only {len(rows)} pairs on which {taste} has a say.")
    return rows, ties


def words_of(rows: Sequence[NewPreference]) -> list[float]:
    """From the 5th to the 95th percentile of the words of the chosen answers."""
    cuts = quantiles([len(row.chosen.split()) for row in rows], n=20)
    return [cuts[0], cuts[-1]]


def count(
    taste: str, mine: Sequence[Sequence[Completion]], theirs: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """What the taste says of answers to the same prompts, each of one side against each of the
    other; a tie counts half for each. The interval is that of as many answers as there are in
    `mine`."""
    verdicts = [
        choose(TASTES[taste], a.text, b, 0.0, Random(0))
        for ours, others in zip(mine, theirs, strict=True)
        for a in ours
        for b in others
    ]
    answers = [one for ours in mine for one in ours]
    won, tied = verdicts.count("left"), verdicts.count("tie")
    rate = (won + tied / 2) / len(verdicts)
    low, high = wilson(rate, len(answers))
    return {
        "win_rate": rate,
        "low": low,
        "high": high,
        "won": won,
        "tied": tied,
        "lost": len(verdicts) - won - tied,
        "words": fmean(len(c.text.split()) for c in answers),
        "words_base": fmean(len(text.split()) for others in theirs for text in others),
        "cut": fmean(c.finish_reason == "length" for c in answers),
        "repeated": fmean(repeated_share(c.text) for c in answers),
    }
