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
from store import pairs, policies
from store.database import Store
from tests.stored import add_policy, add_prompt, count
from train.base_model import BaseModel
from train.policy.client import PolicyClient
from train.policy.server import PolicyConfig, PolicyServer

NUMBERS = itertools.count()


class Policy:
    """Answers every prompt with two different texts, but for those named in `bad`."""

    def __init__(self) -> None:
        self.bad: dict[str, str] = {}  # words in a prompt: refuse, same or down
        self.asked: list[str] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, answer = owner.answer(body["messages"][-1]["content"])
                raw = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def answer(self, prompt: str) -> tuple[int, dict[str, Any]]:
        self.asked.append(prompt)
        kind = next((kind for word, kind in self.bad.items() if word in prompt), "fine")
        if kind in ("refuse", "down"):
            status = 400 if kind == "refuse" else 500
            return status, {"error": {"message": f"policy-000001: {kind}"}}
        texts = ["Same.", "Same."] if kind == "same" else [f"Answer {next(NUMBERS)}." for _ in "ab"]
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
    wait_for(sampler, lambda: sampler.out_of_prompts)
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
    wait_for(sampler, lambda: sampler.out_of_prompts)
    policy.bad = {}
    wait_for(sampler, lambda: pairs.ready(store) == 4)


def test_an_empty_pool_is_told_apart(store: Store, sampler: Sampler) -> None:
    sampler.start()
    wait_for(sampler, lambda: sampler.out_of_prompts)
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
    policy.bad = {"?": "down"}
    sampler.start()
    wait_for(sampler, lambda: sampler.out_of_prompts)
    for state in ("starting", "down", "up"):
        server._set(state, "policy-000001 is told in this note")
        sentences[state] = desk.waiting_note()
    assert "no prompts" in sentences["up"]
    add_prompt(store, "Why?")
    wait_for(sampler, lambda: len(policy.asked) > 1)
    sentences["failing"] = desk.waiting_note()
    assert len(set(sentences.values())) == 4
    assert "policy-000001" not in str(sentences)
    assert len([said for said in caplog.messages if "policy-000001: down" in said]) == 1
