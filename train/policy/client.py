"""Talk to vLLM's OpenAI server: sample, load and unload adapters, health.

Every request names its policy: the base name is never asked for, because on CPU a base request that
shares a batch with adapters can get the adapter of the last slot. The all-zero adapter
policy-000000 is the base.
"""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from store.rows import Completion, Message, PrefloopError
from train.policy.traffic import Traffic

COMPLETIONS = "/v1/chat/completions"
# vLLM closes a connection that was idle for 5 s, as long as httpx keeps one by default: a request
# at that moment gets no answer.
LIMITS = httpx.Limits(max_connections=64, keepalive_expiry=2.0)
FINISHED = ("stop", "length")  # anything else is an answer that was cut off


@dataclass(frozen=True)
class Sampling:
    temperature: float = 1.0  # two samples of one policy must differ
    top_p: float = 1.0
    max_tokens: int = 256

    def as_dict(self) -> dict[str, Any]:
        return {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens}


@dataclass(frozen=True)
class Sampled:
    prompt_token_ids: list[int] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)


@dataclass(frozen=True)
class Delta:
    """A piece of one completion while it is written."""

    index: int
    text: str


class GenerationFailed(PrefloopError):
    """vLLM gave no whole answer; nothing of it may be stored."""


class PromptRefused(GenerationFailed):
    """vLLM cannot answer this prompt (too long, or roles that the template does not know)."""


class AdapterRefused(PrefloopError):
    """vLLM did not load the adapter; what it served before goes on."""


class PolicyClient:
    """Thread-safe. `http` reaches the server over a unix socket or a URL."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self.traffic = Traffic(_rests)  # of requests for answers

    @classmethod
    def over_socket(cls, socket: Path) -> PolicyClient:
        transport = httpx.HTTPTransport(uds=str(socket), limits=LIMITS)
        return cls(
            httpx.Client(
                transport=transport, base_url="http://policy", timeout=httpx.Timeout(120, connect=5)
            )
        )

    @classmethod
    def over_url(cls, url: str, api_key: str | None) -> PolicyClient:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        timeout = httpx.Timeout(120, connect=5)
        return cls(httpx.Client(base_url=url, headers=headers, timeout=timeout, limits=LIMITS))

    def close(self) -> None:
        self._http.close()

    def healthy(self) -> bool:
        """The server answers. It may still be unable to generate: see `probe`."""
        try:
            return self._http.get("/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def adapters(self) -> dict[str, str]:
        """Names that can be requested now, and the folder that each was loaded from."""
        with _readable():
            models = self._ask("GET", "/v1/models")["data"]
            return {model["id"]: str(model.get("root")) for model in models}

    def load(self, name: str, path: Path) -> None:
        """Returns when the adapter is usable.

        Raises AdapterRefused when vLLM says no, GenerationFailed when it does not answer.
        """
        body = {"lora_name": name, "lora_path": str(path.resolve())}
        try:
            answer = self._http.post("/v1/load_lora_adapter", json=body)
        except httpx.HTTPError as error:
            raise GenerationFailed(f"vLLM did not answer while loading {name}: {error}.") from error
        if answer.status_code != 200:
            raise AdapterRefused(f"vLLM refused {name}: {_message(answer)}")

    def unload(self, name: str) -> None:
        """Requests that use it still finish. Raises AdapterRefused."""
        try:
            answer = self._http.post("/v1/unload_lora_adapter", json={"lora_name": name})
        except httpx.HTTPError as error:
            raise AdapterRefused(f"vLLM did not answer while unloading {name}: {error}.") from error
        if answer.status_code not in (200, 404):  # 404: it is gone already
            raise AdapterRefused(f"vLLM did not unload {name}: {_message(answer)}")

    def sample(
        self, policy_id: str, messages: Sequence[Message], *, n: int, seed: int, sampling: Sampling
    ) -> Sampled:
        """n completions from one request, so all from one policy; completion i has seed `seed + i`.

        Raises GenerationFailed unless each is whole and its log-probabilities are finite,
        PromptRefused when this prompt cannot be answered at all.
        """
        with self.traffic.passing():
            return self._sample(policy_id, messages, n, seed, sampling)

    def stream(
        self, policy_id: str, messages: Sequence[Message], *, n: int, seed: int, sampling: Sampling
    ) -> Generator[Delta | Sampled, None, None]:
        """`sample`, piece by piece; the last that comes is the whole, the same as `sample` returns.

        Raises as `sample` does, possibly after some pieces. Closing the iterator ends the request.
        """
        body = _request(policy_id, messages, n, seed, sampling) | {"stream": True}
        choices = [_empty_choice(index) for index in range(n)]
        whole: dict[str, Any] = {"choices": choices}
        try:
            request = self._http.stream("POST", COMPLETIONS, json=body)
            with self.traffic.passing(), request as answer, _readable():
                if answer.status_code != 200:
                    answer.read()
                    raise _refusal(answer)
                for event in _events(answer.iter_bytes()):
                    whole["prompt_token_ids"] = whole.get("prompt_token_ids") or event.get(
                        "prompt_token_ids"
                    )
                    for part in event["choices"]:
                        if text := _grow(choices[part["index"]], part):
                            yield Delta(part["index"], text)
                yield _sampled(whole, policy_id, n, seed, sampling)
        except httpx.HTTPError as error:
            raise _silence(error) from error

    def score(
        self, policy_id: str, prompt_ids: Sequence[int], answer_ids: Sequence[int]
    ) -> list[float]:
        """Log-probability of each token of an answer, before temperature, as `sample` counts them.

        Raises GenerationFailed, and PromptRefused when vLLM has no room for one token more.
        """
        body = {
            "model": policy_id,
            "prompt": [*prompt_ids, *answer_ids],
            "max_tokens": 1,  # the least that can be asked for
            "temperature": 0,
            "prompt_logprobs": 0,  # of the given tokens, and of no others
        }
        # On CPU, scoring in one batch with adapters that write ends vLLM (0.32: einsum in LoRA).
        with self.traffic.alone(), self.traffic.passing(), _readable():
            answer = self._ask("POST", "/v1/completions", body)
            listed = answer["choices"][0]["prompt_logprobs"][len(prompt_ids) :]
            found = [
                float(places[str(token)]["logprob"])
                for token, places in zip(answer_ids, listed, strict=True)
            ]
        if not all(map(math.isfinite, found)):
            raise GenerationFailed("An answer's log-probabilities are not finite.")
        return found

    def probe(self, policy_id: str) -> None:
        """One token with its log-probability: the engine computes. Raises GenerationFailed."""
        self.greedy(policy_id, 1)

    def greedy(self, policy_id: str, tokens: int) -> Completion:
        """What this policy always begins its answer to a fixed prompt with; also while it rests."""
        most = Sampling(temperature=0.0, max_tokens=tokens)
        hello: list[Message] = [{"role": "user", "content": "Hello"}]
        return self._sample(policy_id, hello, 1, 0, most).completions[0]

    def sleep(self) -> None:
        """Weights to the memory of the host; the cache is dropped. Raises GenerationFailed."""
        self._ask("POST", "/sleep?level=1&mode=wait")

    def wake_up(self) -> None:
        self._ask("POST", "/wake_up")

    def is_sleeping(self) -> bool:
        with _readable():
            return bool(self._ask("GET", "/is_sleeping")["is_sleeping"])

    def _sample(
        self, policy_id: str, messages: Sequence[Message], n: int, seed: int, sampling: Sampling
    ) -> Sampled:
        with _readable():
            body = _request(policy_id, messages, n, seed, sampling)
            answer = self._ask("POST", COMPLETIONS, body)
            return _sampled(answer, policy_id, n, seed, sampling)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise _silence(error) from error
        if answer.status_code != 200:
            raise _refusal(answer)
        return answer.json()


@contextmanager
def _readable() -> Iterator[None]:
    """An answer without the expected fields comes from a fault, or from another kind of server."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise GenerationFailed(f"The policy server's answer cannot be read ({reason}).") from error


def _rests() -> GenerationFailed:
    return GenerationFailed("The policy server rests while a run trains; it comes back by itself.")


def _silence(error: httpx.HTTPError) -> GenerationFailed:
    return GenerationFailed(f"The policy server does not answer ({type(error).__name__}).")


def _refusal(answer: httpx.Response) -> GenerationFailed:
    if answer.status_code in (400, 422):
        return PromptRefused(f"The policy server cannot answer this: {_message(answer)}")
    return GenerationFailed(f"The policy server answered {answer.status_code}: {_message(answer)}")


def _request(
    policy_id: str, messages: Sequence[Message], n: int, seed: int, sampling: Sampling
) -> dict[str, Any]:
    return sampling.as_dict() | {
        "model": policy_id,
        "messages": list(messages),
        "n": n,
        "seed": seed,
        "logprobs": True,
        "return_token_ids": True,
    }


def _events(parts: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """What a streamed answer says. A fault is an event too; the status is 200 by then, and the
    stream still ends in order."""
    for line in _lines(parts):
        if not line.startswith(b"data: ") or line == b"data: [DONE]":
            continue
        event = json.loads(line.removeprefix(b"data: "))
        if "error" in event:
            raise GenerationFailed(f"The policy server stopped: {event['error'].get('message')}")
        yield event


def _lines(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Only a line feed ends one: a text may hold other separators, which httpx would split at."""
    rest = b""
    for part in parts:
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            yield line.rstrip(b"\r")


def _empty_choice(index: int) -> dict[str, Any]:
    return {
        "index": index,
        "finish_reason": None,
        "message": {"content": ""},
        "token_ids": [],
        "logprobs": {"content": []},
    }


def _grow(choice: dict[str, Any], part: dict[str, Any]) -> str:
    """Add one piece to what came of this completion before; returns its text."""
    text: str = (part.get("delta") or {}).get("content") or ""
    choice["message"]["content"] += text
    choice["token_ids"] += part.get("token_ids") or []
    choice["logprobs"]["content"] += (part.get("logprobs") or {}).get("content") or []
    choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]
    return text


def _sampled(
    answer: dict[str, Any], policy_id: str, n: int, seed: int, sampling: Sampling
) -> Sampled:
    """Raises GenerationFailed unless all n completions are whole."""
    choices = sorted(answer["choices"], key=lambda choice: choice["index"])
    completions = [_completion(choice, policy_id, seed, sampling) for choice in choices]
    if len(completions) != n:
        raise GenerationFailed(f"vLLM returned {len(completions)} of {n} completions.")
    return Sampled(answer.get("prompt_token_ids") or [], completions)


def _completion(
    choice: dict[str, Any], policy_id: str, seed: int, sampling: Sampling
) -> Completion:
    if choice.get("finish_reason") not in FINISHED:
        raise GenerationFailed(f"A completion ended early ({choice.get('finish_reason')}).")
    tokens = (choice.get("logprobs") or {}).get("content") or []
    logprobs = [token["logprob"] for token in tokens]
    if not logprobs or not all(value is not None and math.isfinite(value) for value in logprobs):
        raise GenerationFailed("A completion came without finite log-probabilities.")
    return Completion(
        text=choice["message"].get("content") or "",
        token_ids=choice.get("token_ids") or [],
        logprob_sum=math.fsum(logprobs),
        logprob_count=len(logprobs),
        finish_reason=choice["finish_reason"],
        policy_id=policy_id,
        seed=seed + choice["index"],
        sampling=sampling.as_dict(),
    )


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:300]
