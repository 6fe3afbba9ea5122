"""Talk to vLLM's OpenAI server: sample, load and unload adapters, health.

Every request names its policy: the base name is never asked for, because on CPU a base request that
shares a batch with adapters can get the adapter of the last slot. The all-zero adapter
policy-000000 is the base.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from store.rows import Completion, Message, PrefloopError

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

    @classmethod
    def over_socket(cls, socket: Path) -> PolicyClient:
        limits = httpx.Limits(max_connections=64)
        transport = httpx.HTTPTransport(uds=str(socket), limits=limits)
        return cls(
            httpx.Client(
                transport=transport, base_url="http://policy", timeout=httpx.Timeout(120, connect=5)
            )
        )

    @classmethod
    def over_url(cls, url: str, api_key: str | None) -> PolicyClient:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        return cls(
            httpx.Client(base_url=url, headers=headers, timeout=httpx.Timeout(120, connect=5))
        )

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
        body: dict[str, Any] = sampling.as_dict() | {
            "model": policy_id,
            "messages": list(messages),
            "n": n,
            "seed": seed,
            "logprobs": True,
            "return_token_ids": True,
        }
        with _readable():
            answer = self._ask("POST", "/v1/chat/completions", body)
            choices = sorted(answer["choices"], key=lambda choice: choice["index"])
            completions = [_completion(choice, policy_id, seed, sampling) for choice in choices]
            if len(completions) != n:
                raise GenerationFailed(f"vLLM returned {len(completions)} of {n} completions.")
            return Sampled(answer.get("prompt_token_ids") or [], completions)

    def probe(self, policy_id: str) -> None:
        """One token with its log-probability: the engine computes. Raises GenerationFailed."""
        one = Sampling(temperature=0.0, max_tokens=1)
        self.sample(policy_id, [{"role": "user", "content": "Hello"}], n=1, seed=0, sampling=one)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise GenerationFailed(
                f"The policy server does not answer ({type(error).__name__})."
            ) from error
        if answer.status_code in (400, 422):
            raise PromptRefused(f"The policy server cannot answer this: {_message(answer)}")
        if answer.status_code != 200:
            raise GenerationFailed(
                f"The policy server answered {answer.status_code}: {_message(answer)}"
            )
        return answer.json()


@contextmanager
def _readable() -> Iterator[None]:
    """An answer without the expected fields comes from a fault, or from another kind of server."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise GenerationFailed(f"The policy server's answer cannot be read ({reason}).") from error


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
