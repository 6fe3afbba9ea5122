"""Our two HTTP clients against a real server that answers as vLLM or the app on a bad day."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from annotate.api_client import ApiClient, Unreachable
from store.rows import Conflict, Invalid, Message, NotFound, PrefloopError
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


class Server:
    """Gives every request the same answer and remembers what it was asked."""

    def __init__(self) -> None:
        self.status, self.body, self.cut = 200, b"{}", False
        self.asked: list[tuple[str, Any]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                owner.asked.append((self.path, json.loads(body) if body else None))
                self.send_response(owner.status)
                self.send_header("Content-Length", str(len(owner.body) + owner.cut))
                self.end_headers()
                self.wfile.write(owner.body)
                self.close_connection = True

            do_POST = do_GET  # noqa: N815 - the name that the base class calls

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def answer(self, body: Any, status: int = 200) -> None:
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.http.shutdown()
    thread.join()
    made.http.server_close()


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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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


# --- our own API -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, NotFound), (409, Conflict), (422, Invalid), (401, PrefloopError), (503, PrefloopError)],
)
def test_an_error_of_the_app_comes_back_as_its_exception(
    server: Server, status: int, kind: type[PrefloopError]
) -> None:
    server.answer({"error": {"code": "x", "message": "One clear sentence."}}, status)
    with ApiClient(server.url, "token") as api:
        with pytest.raises(kind, match=r"^One clear sentence\.$"):
            api.get("/stats")
        with pytest.raises(kind, match=r"^One clear sentence\.$"), api.lines("/export/trl"):
            pass


def test_an_app_that_is_away() -> None:
    with ApiClient(f"http://127.0.0.1:{free_port()}", "token") as api:
        with pytest.raises(Unreachable, match="does not answer"):
            api.post("/pairs/next")
        with pytest.raises(Unreachable, match="does not answer"), api.lines("/export/trl"):
            pass


def test_only_a_line_feed_ends_an_exported_line(server: Server) -> None:
    rows = [{"chosen": f"a{separator}b"} for separator in "\u2028\u2029\x85\x0b\x1c\r"]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    server.answer("".join(line + "\n" for line in lines).encode())
    with ApiClient(server.url, "token") as api, api.lines("/export/trl", where=None) as found:
        assert list(found) == lines
    assert server.asked == [("/api/v1/export/trl", None)]


def test_an_export_that_breaks_off_is_no_export(server: Server) -> None:
    server.answer(b'{"prompt": 1}\n')
    server.cut = True
    with (
        ApiClient(server.url, "token") as api,
        pytest.raises(Unreachable, match="does not answer"),
        api.lines("/export/trl") as found,
    ):
        list(found)


def test_no_content_is_none_and_parameters_that_are_none_are_left_out(server: Server) -> None:
    with ApiClient(server.url, "token") as api:
        server.answer({"prompts": []})
        assert api.get("/prompts", tag="a b", limit=None) == {"prompts": []}
        server.answer(b"", 204)
        assert api.post("/pairs/next") is None
    assert server.asked == [("/api/v1/prompts?tag=a+b", None), ("/api/v1/pairs/next", None)]
