"""The sampler over a real store and a real HTTP server that answers as vLLM does."""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from annotate.desk import Desk
from annotate.sampler import Sampler, SamplerConfig
from store import pairs, policies, pools, prompts
from store.database import Store
from store.prompts import NewPrompt
from tests.stored import add_policy, add_prompt, add_user, count
from train.base_model import BaseModel
from train.policy.client import PolicyClient
from train.policy.server import PolicyServer
from train.policy.vllm import PolicyConfig

NUMBERS = itertools.count()


class Policy:
    """Answers every prompt with two different texts, but for those named in `bad`."""

    def __init__(self) -> None:
        self.bad: dict[str, str] = {}  # words in a prompt: refuse, same or down
        self.asked: list[str] = []
        self.seeds: list[tuple[int, int]] = []  # the first, and how many
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, answer = owner.answer(body["messages"][-1]["content"], body["n"])
                owner.seeds.append((body["seed"], body["n"]))
                raw = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def answer(self, prompt: str, n: int) -> tuple[int, dict[str, Any]]:
        self.asked.append(prompt)
        kind = next((kind for word, kind in self.bad.items() if word in prompt), "fine")
        if kind in ("refuse", "down"):
            status = 400 if kind == "refuse" else 500
            return status, {"error": {"message": f"policy-000001: {kind}"}}
        texts = ["Same." if kind == "same" else f"Answer {next(NUMBERS)}." for _ in range(n)]
        choices = [
            {
                "index": index,
                "message": {"content": text},
                "finish_reason": "stop",
                "logprobs": {"content": [{"logprob": -0.5}]},
            }
            for index, text in enumerate(texts)
        ]
        return 200, {"choices": choices}


@pytest.fixture
def policy() -> Iterator[Policy]:
    made = Policy()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.http.shutdown()
    thread.join()
    made.http.server_close()


@pytest.fixture
def sampler(store: Store, policy: Policy) -> Iterator[Sampler]:
    """One that nobody has started yet."""
    client = PolicyClient.over_url(f"http://127.0.0.1:{policy.http.server_address[1]}", None)
    add_policy(store)
    made = Sampler(store, client, SamplerConfig(ready=4), seed=1)
    yield made
    made.stop()
    client.close()


def wait_for(sampler: Sampler, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        sampler.wake()  # as an annotator who waits does
        time.sleep(0.02)


@pytest.mark.parametrize("kind", ["refuse", "same"])
def test_prompts_that_give_no_pair_do_not_stop_the_others(
    store: Store, policy: Policy, sampler: Sampler, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    policy.bad = {"hopeless": kind}
    for number in range(9):  # more than one round takes, and always the least sampled
        add_prompt(store, f"A hopeless prompt, {number}?")
    add_prompt(store, "A fine prompt?")
    sampler.start()
    wait_for(sampler, lambda: pairs.ready(store) == 4)
    sampler.stop()
    tries = [policy.asked.count(prompt) for prompt in set(policy.asked) if "hopeless" in prompt]
    assert max(tries) == (1 if kind == "refuse" else 3)
    said = [text for text in caplog.messages if re.search("prompt .* (is left out|waits):", text)]
    assert len(said) == len(set(said)) == sum(n == max(tries) for n in tries)


def test_a_failed_request_does_not_discard_the_other_answers(
    store: Store, policy: Policy, sampler: Sampler
) -> None:
    policy.bad = {"down": "down"}
    for prompt in ("down?", "One?", "Two?", "Three?"):
        add_prompt(store, prompt)
    sampler.start()
    wait_for(sampler, lambda: count(store, "pair") == 3)
    policy.bad = {}
    wait_for(sampler, lambda: pairs.ready(store) == 4)  # it was not given up


def test_a_new_champion_tries_every_prompt_again(
    store: Store, policy: Policy, sampler: Sampler
) -> None:
    policy.bad = {"Why": "refuse"}
    add_prompt(store, "Why?")
    sampler.start()
    wait_for(sampler, lambda: bool(sampler.out_of_prompts))
    policy.bad = {}
    add_policy(store, "policy-000001")
    sampler.wake()
    wait_for(sampler, lambda: pairs.ready(store) == 4)
    assert not sampler.out_of_prompts
    found = policies.champion(store)
    assert found is not None and found.policy_id == "policy-000001"


def test_prompts_whose_answers_were_the_same_get_another_chance(
    store: Store, policy: Policy, sampler: Sampler
) -> None:
    policy.bad = {"Why": "same"}
    add_prompt(store, "Why?")
    sampler.start()
    wait_for(sampler, lambda: bool(sampler.out_of_prompts))
    policy.bad = {}
    wait_for(sampler, lambda: pairs.ready(store) == 4)


def test_an_empty_pool_is_told_apart(store: Store, sampler: Sampler) -> None:
    sampler.start()
    wait_for(sampler, lambda: bool(sampler.out_of_prompts))
    add_prompt(store, "Why?")
    sampler.wake()
    wait_for(sampler, lambda: not sampler.out_of_prompts)


def test_the_log_says_why_nothing_comes_and_annotators_read_fixed_sentences(
    store: Store,
    policy: Policy,
    sampler: Sampler,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = PolicyServer(PolicyConfig(), BaseModel("base", tmp_path, 1), tmp_path / "server.log")
    desk, sentences = Desk(store, sampler, server), {}
    user = add_user(store, "ann")

    caplog.set_level("INFO")

    def said() -> str:
        screen = desk.screen(user)
        assert screen.item is None and screen.waiting is not None
        sentences[screen.waiting.code] = screen.waiting.message
        return screen.waiting.code

    policy.bad = {"?": "down"}
    sampler.start()
    wait_for(sampler, lambda: bool(sampler.out_of_prompts))
    for state, code in (("starting", "starting"), ("down", "down"), ("up", "no_prompts")):
        server._set(state, "policy-000001 is told in this note")  # type: ignore[arg-type]
        assert said() == code
    add_prompt(store, "Why?")
    wait_for(sampler, lambda: len(policy.asked) > 1)
    assert said() == "sampling"
    pools.change(store, "everything", annotators=[add_user(store, "other").user_id])
    assert said() == "no_pool"
    assert len(set(sentences.values())) == 5
    assert "policy-000001" not in str(sentences)
    assert len(reasons(caplog)) == 1


def test_a_policy_that_is_not_up_yet_is_no_warning(
    store: Store, policy: Policy, sampler: Sampler, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    policy.bad = {"?": "down"}
    add_prompt(store, "Why?")
    sampler.start()
    wait_for(sampler, lambda: len(reasons(caplog)) == 1)
    policy.bad = {}
    wait_for(sampler, lambda: pairs.ready(store) > 0)
    policy.bad = {"?": "down"}
    add_prompt(store, "And why?")
    sampler.active(add_user(store, "ann"))
    wait_for(sampler, lambda: len(reasons(caplog)) == 2)
    assert reasons(caplog) == ["INFO", "WARNING"]


def reasons(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Levels at which the log told that the policy is down."""
    return [one.levelname for one in caplog.records if "policy-000001: down" in one.getMessage()]


# --- pools ----------------------------------------------------------------------------------------


def tagged(store: Store, tag: str, many: int = 9) -> None:
    new = [
        NewPrompt([{"role": "user", "content": f"{tag} {number}?"}], (tag,))
        for number in range(many)
    ]
    prompts.add(store, new, "import")


def pairs_of(store: Store) -> list[dict[str, Any]]:
    return store.read("select * from pair order by seq")


def test_every_pool_gets_its_share(store: Store, policy: Policy, sampler: Sampler) -> None:
    tagged(store, "maths")
    tagged(store, "poems")
    tagged(store, "talk")
    pools.add(store, "Maths", tags=["maths"], mode="best_worst", weight=2)
    rested = pools.add(store, "Talk", tags=["talk"], mode="conversation", weight=5)
    sampler.start()
    wait_for(sampler, lambda: sum(pairs.ready_by_pool(store).values()) == 5)
    sampler.stop()
    ready = pairs.ready_by_pool(store)  # two thirds of four, and one third, each rounded up
    assert sorted(ready.values()) == [2, 3] and rested.pool_id not in ready
    for row in pairs_of(store):
        asked = prompts.search(store, "maths" if row["kind"] == "four" else "poems", 99)
        assert row["prompt_id"] in [prompt.prompt_id for prompt in asked]
        assert (row["d_text"] is None) == (row["kind"] == "pair")
    ranges = [range(seed, seed + n) for seed, n in policy.seeds]
    assert not any(set(a) & set(b) for a, b in itertools.combinations(ranges, 2))


def test_pairs_for_several_annotators(store: Store, policy: Policy, sampler: Sampler) -> None:
    tagged(store, "maths", 40)
    pools.change(store, "everything", overlap_share=0.5, overlap_annotators=3)
    for number in range(20):
        sampler.active(add_user(store, f"user {number}"))
    sampler.start()
    wait_for(sampler, lambda: pairs.ready(store) == 40)  # 20 want 4 each, half of them thrice
    sampler.stop()
    wanted = [row["wanted"] for row in pairs_of(store)]
    assert set(wanted) == {1, 3} and 8 < wanted.count(3) < 32


def test_pools_of_nobody_at_work_are_not_filled(
    store: Store, policy: Policy, sampler: Sampler
) -> None:
    tagged(store, "maths")
    add_prompt(store, "Why?")
    english, chinese = add_user(store, "english"), add_user(store, "chinese")
    pools.add(store, "Maths", tags=["maths"], annotators=[chinese.user_id])
    sampler.active(english)
    sampler.start()
    wait_for(sampler, lambda: pairs.ready(store) == 4)
    assert list(pairs.ready_by_pool(store)) == ["everything"]
    sampler.active(chinese)
    wait_for(sampler, lambda: len(pairs.ready_by_pool(store)) == 2)


def test_one_empty_pool_is_told_apart(store: Store, policy: Policy, sampler: Sampler) -> None:
    add_prompt(store, "Why?")
    empty = pools.add(store, "Maths", tags=["maths"], weight=999)
    sampler.start()
    wait_for(sampler, lambda: sampler.out_of_prompts == {empty.pool_id})
    wait_for(sampler, lambda: pairs.ready(store) == 4)  # nothing is kept free for the other
    tagged(store, "maths")
    wait_for(sampler, lambda: pairs.ready_by_pool(store).get(empty.pool_id) == 4)
    assert not sampler.out_of_prompts


def test_with_the_buffer_off_a_pair_is_sampled_once_somebody_waits(
    store: Store, policy: Policy, tmp_path: Path
) -> None:
    add_policy(store)
    add_prompt(store, "Why?")
    user = add_user(store, "ann")
    client = PolicyClient.over_url(f"http://127.0.0.1:{policy.http.server_address[1]}", None)
    sampler = Sampler(store, client, SamplerConfig(ready=0), seed=1)
    server = PolicyServer(PolicyConfig(), BaseModel("base", tmp_path, 1), tmp_path / "server.log")
    desk = Desk(store, sampler, server)
    sampler.start()
    try:
        sampler.active(user)
        time.sleep(0.3)
        assert count(store, "pair") == 0
        assert desk.next_lease(user) is None
        wait_for(sampler, lambda: count(store, "pair") == 1)
        assert desk.next_lease(user) is not None
        time.sleep(0.3)
        assert count(store, "pair") == 1
    finally:
        sampler.stop()
        client.close()
