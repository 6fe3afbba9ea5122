"""Our client of vLLM against a real server that answers as vLLM on a bad day."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from store.rows import Message
from tests.one_answer import Server, free_port, one_answer
from tests.vllm_stand_in import END, event, piece
from train.policy.client import (
    AdapterRefused,
    Delta,
    GenerationFailed,
    PolicyClient,
    PromptRefused,
    Sampling,
)

ASKED: list[Message] = [{"role": "user", "content": "Why do bees dance?"}]


@pytest.fixture
def server() -> Iterator[Server]:
    with one_answer() as made:
        yield made


@pytest.fixture
def client(server: Server) -> Iterator[PolicyClient]:
    made = PolicyClient.over_url(server.url, "secret")
    yield made
    made.close()


def choice(index: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "index": index,
        "message": {"role": "assistant", "content": f"Answer {index}."},
        "finish_reason": "stop",
        "token_ids": [5, 6, index],
        "logprobs": {"content": [{"logprob": -0.5}, {"logprob": -1.25}, {"logprob": -0.25}]},
    } | changes


def sample(client: PolicyClient, n: int = 2) -> Any:
    sampling = Sampling(temperature=0.7, top_p=0.9, max_tokens=64)
    return client.sample("policy-000003", ASKED, n=n, seed=40, sampling=sampling)


def test_a_connection_that_was_idle_is_not_used_again(server: Server) -> None:
    """vLLM may close it at that moment, and the request would get no answer."""
    server.keeps = True
    server.answer({"choices": [choice(0)]})
    client = PolicyClient.over_url(server.url, None)
    sample(client, 1)
    with pytest.raises(GenerationFailed, match="does not answer"):
        sample(client, 1)  # at once, so on the same one: this is what would happen
    sample(client, 1)
    time.sleep(2.1)
    sample(client, 1)
    client.close()


def test_a_good_answer(client: PolicyClient, server: Server) -> None:
    server.answer({"prompt_token_ids": [1, 2], "choices": [choice(1), choice(0)]})
    sampled = sample(client)
    assert sampled.prompt_token_ids == [1, 2]
    first, second = sampled.completions
    assert (first.text, second.text) == ("Answer 0.", "Answer 1.")
    assert (first.seed, second.seed) == (40, 41)
    assert first.token_ids == [5, 6, 0]
    assert (first.logprob_sum, first.logprob_count) == (-2.0, 3)
    assert (first.finish_reason, first.policy_id) == ("stop", "policy-000003")
    assert first.sampling == {"temperature": 0.7, "top_p": 0.9, "max_tokens": 64}


def test_one_request_names_the_policy_and_asks_for_everything(
    client: PolicyClient, server: Server
) -> None:
    server.answer({"choices": [choice(0), choice(1)]})
    assert sample(client).prompt_token_ids == []
    ((path, body),) = server.asked
    assert path == "/v1/chat/completions"
    assert body == {
        "model": "policy-000003",
        "messages": ASKED,
        "n": 2,
        "seed": 40,
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 64,
        "logprobs": True,
        "return_token_ids": True,
    }


def with_logprob(value: Any) -> dict[str, Any]:
    return choice(logprobs={"content": [{"logprob": value}, {"logprob": -1.0}]})


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"choices": [choice(finish_reason="abort")]}, "A completion ended early (abort)."),
        ({"choices": [choice(finish_reason=None)]}, "A completion ended early (None)."),
        ({"choices": [choice(logprobs=None)]}, "without finite log-probabilities"),
        ({"choices": [choice(logprobs={"content": []})]}, "without finite log-probabilities"),
        ({"choices": [with_logprob(float("nan"))]}, "without finite log-probabilities"),
        ({"choices": [with_logprob(float("-inf"))]}, "without finite log-probabilities"),
        (
            {"choices": [choice(logprobs={"content": [{"logprob": v} for v in (1e999, -1e999)]})]},
            "without finite log-probabilities",
        ),
        ({"choices": [with_logprob(None)]}, "without finite log-probabilities"),
        ({"choices": []}, "vLLM returned 0 of 1 completions."),
        ({"choices": [choice(0), choice(1)]}, "vLLM returned 2 of 1 completions."),
        ({"error": "no choices"}, "The policy server's answer cannot be read"),
        ([], "The policy server's answer cannot be read"),
        (b"<html>proxy</html>", "The policy server's answer cannot be read"),
    ],
)
def test_an_answer_that_is_not_whole(
    client: PolicyClient, server: Server, body: Any, sentence: str
) -> None:
    server.answer(body)
    with pytest.raises(GenerationFailed) as caught:
        sample(client, n=1)
    assert sentence in str(caught.value)


def test_a_server_error_is_passed_on_in_words(client: PolicyClient, server: Server) -> None:
    server.answer({"error": {"message": "engine is dead"}}, 500)
    with pytest.raises(GenerationFailed, match="policy server answered 500: engine is dead"):
        sample(client)
    server.answer(b"Bad Gateway", 502)
    with pytest.raises(GenerationFailed, match="policy server answered 502: Bad Gateway"):
        sample(client)


@pytest.mark.parametrize("status", [400, 422])
def test_a_prompt_that_cannot_be_answered_is_told_apart(
    client: PolicyClient, server: Server, status: int
) -> None:
    server.answer({"error": {"message": "this prompt is too long"}}, status)
    with pytest.raises(PromptRefused, match="this prompt is too long"):
        sample(client)


def test_an_answer_that_breaks_off(client: PolicyClient, server: Server) -> None:
    server.answer({"choices": [choice()]})
    server.cut = True
    with pytest.raises(GenerationFailed, match="does not answer"):
        sample(client, n=1)


# --- streams --------------------------------------------------------------------------------------


def stream(client: PolicyClient) -> Any:
    sampling = Sampling(temperature=0.7, top_p=0.9, max_tokens=64)
    return client.stream("policy-000003", ASKED, n=2, seed=40, sampling=sampling)


def lines(*events: Any) -> bytes:
    return "".join(f"{line}\n\n" for line in (*map(event, events), END)).encode()


def both(*words: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [piece(index, word, finish) for index, word in enumerate(words)]}


def test_a_stream_ends_with_what_sample_returns(client: PolicyClient, server: Server) -> None:
    start = {"prompt_token_ids": [1, 2], "choices": []}
    server.answer(lines(start, both("A\u2028b", "C"), both(" d", " e", finish="stop")))
    *deltas, sampled = stream(client)
    assert deltas == [Delta(0, "A\u2028b"), Delta(1, "C"), Delta(0, " d"), Delta(1, " e")]
    ((_, body),) = server.asked
    assert body["stream"] is True and body["n"] == 2 and body["return_token_ids"] is True
    whole = [
        choice(
            index,
            message={"content": text},
            token_ids=[index + 1] * 2,
            logprobs={"content": [{"logprob": -0.5}] * 2},
        )
        for index, text in enumerate(("A\u2028b d", "C e"))
    ]
    server.answer({"prompt_token_ids": [1, 2], "choices": whole})
    assert sampled == sample(client)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (lines({"error": {"message": "engine is dead"}}), "stopped: engine is dead"),
        (lines(both("A", "B"), {"error": {"message": "dead"}}), "stopped: dead"),
        (lines(both("A", "B")), "A completion ended early (None)."),
        (lines(both("A", "B", finish="abort")), "A completion ended early (abort)."),
        (lines({"choices": [piece(0, "A", "stop")]}), "A completion ended early (None)."),
        (lines({"choices": [piece(2, "A", "stop")]}), "answer cannot be read"),
        (
            lines({"choices": [piece(i, "A", "stop", float("nan")) for i in (0, 1)]}),
            "without finite log-probabilities",
        ),
        (b"data: {broken\n\n", "answer cannot be read"),
        (b"<html>proxy</html>", "A completion ended early"),
        (lines(), "A completion ended early"),
    ],
)
def test_a_stream_that_is_not_whole(
    client: PolicyClient, server: Server, body: bytes, sentence: str
) -> None:
    server.answer(body)
    with pytest.raises(GenerationFailed) as caught:
        list(stream(client))
    assert sentence in str(caught.value)


def test_a_stream_that_breaks_off(client: PolicyClient, server: Server) -> None:
    server.answer(lines(both("A", "B", finish="stop")))
    server.cut = True
    with pytest.raises(GenerationFailed, match="does not answer"):
        list(stream(client))


@pytest.mark.parametrize(("status", "kind"), [(400, PromptRefused), (500, GenerationFailed)])
def test_a_stream_that_does_not_begin(
    client: PolicyClient, server: Server, status: int, kind: type[GenerationFailed]
) -> None:
    server.answer({"error": {"message": "too long"}}, status)
    with pytest.raises(kind, match="too long"):
        list(stream(client))


def test_nobody_there(tmp_path: Path) -> None:
    for client in (
        PolicyClient.over_url(f"http://127.0.0.1:{free_port()}", None),
        PolicyClient.over_socket(tmp_path / "none.sock"),
    ):
        assert not client.healthy()
        with pytest.raises(GenerationFailed, match="does not answer"):
            sample(client)
        with pytest.raises(GenerationFailed, match="does not answer"):
            list(stream(client))
        with pytest.raises(GenerationFailed, match="does not answer"):
            client.adapters()
        with pytest.raises(GenerationFailed, match="did not answer while loading policy-000001"):
            client.load("policy-000001", tmp_path)
        with pytest.raises(AdapterRefused, match="did not answer while unloading policy-000001"):
            client.unload("policy-000001")
        client.close()


def test_health_and_adapters(client: PolicyClient, server: Server) -> None:
    models = [{"id": "base", "root": "/m"}, {"id": "policy-000000", "root": "/p/policy-000000"}]
    server.answer({"data": models})
    assert client.healthy()
    assert client.adapters() == {"base": "/m", "policy-000000": "/p/policy-000000"}
    server.answer({"detail": "not vLLM"})
    with pytest.raises(GenerationFailed, match="cannot be read"):
        client.adapters()
    server.answer({}, 503)
    assert not client.healthy()


def test_adapters_are_loaded_by_absolute_path(
    client: PolicyClient, server: Server, tmp_path: Path
) -> None:
    server.answer(b"Success")
    client.load("policy-000001", tmp_path / "policies" / "..")
    client.unload("policy-000001")
    assert server.asked == [
        ("/v1/load_lora_adapter", {"lora_name": "policy-000001", "lora_path": str(tmp_path)}),
        ("/v1/unload_lora_adapter", {"lora_name": "policy-000001"}),
    ]
    server.answer({"error": {"message": "not found"}}, 404)
    client.unload("policy-000001")  # it is gone already
    with pytest.raises(AdapterRefused, match="vLLM refused policy-000001: not found"):
        client.load("policy-000001", tmp_path)
    server.answer({"error": {"message": "busy"}}, 500)
    with pytest.raises(AdapterRefused, match="vLLM did not unload policy-000001: busy"):
        client.unload("policy-000001")
