"""A small client of our HTTP API: commands, simulated annotators and benchmarks go through it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from store.rows import Conflict, Invalid, NotFound, PrefloopError

ERRORS: dict[int, type[PrefloopError]] = {404: NotFound, 409: Conflict, 422: Invalid}


class Unreachable(PrefloopError):
    """The app does not answer."""


class ApiClient:
    """One client for one token; thread-safe. `temporary`: the app ends with this command."""

    def __init__(
        self, url: str, token: str, timeout_s: float = 600, temporary: bool = False
    ) -> None:
        self.url, self.temporary = url, temporary
        headers = {"Authorization": f"Bearer {token}"}
        timeout = httpx.Timeout(timeout_s, connect=5)
        # The app closes a connection that was idle for 5 s; a request at that moment would be lost.
        limits = httpx.Limits(keepalive_expiry=2.0)
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, limits=limits)

    def __enter__(self) -> ApiClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Any:
        given = {key: value for key, value in params.items() if value is not None}
        return self._ask("GET", path, params=given).json()

    def post(self, path: str, body: Any = None) -> Any:
        """The JSON of the answer; None for 204."""
        answer = self._ask("POST", path, json=body)
        return answer.json() if answer.status_code != 204 else None

    def post_lines(self, path: str, rows: Iterable[Any]) -> Any:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        return self._ask(
            "POST", path, content=lines.encode(), headers={"Content-Type": "application/jsonl"}
        ).json()

    def patch(self, path: str, body: Any) -> Any:
        return self._ask("PATCH", path, json=body).json()

    def delete(self, path: str) -> Any:
        return self._ask("DELETE", path).json()

    @contextmanager
    def lines(self, path: str, **params: Any) -> Iterator[Iterator[str]]:
        """The lines of a streamed answer. Raises Unreachable when it breaks off."""
        given = {key: value for key, value in params.items() if value is not None}
        with (
            self._reachable(),
            self._http.stream("GET", "/api/v1" + path, params=given) as answer,
        ):
            if answer.status_code != 200:
                answer.read()
                _raise(answer)
            yield _lines(answer.iter_bytes())

    def wait_for_run(self, run_id: str, poll_s: float = 0.5) -> Iterator[dict[str, Any]]:
        """The run's state at each look, last the one in which it rests."""
        while True:
            run = self.get(f"/runs/{run_id}")
            yield run
            if run["status"] in ("done", "failed", "cancelled", "paused"):
                return
            time.sleep(poll_s)

    def _ask(self, method: str, path: str, **values: Any) -> httpx.Response:
        with self._reachable():
            answer = self._http.request(method, "/api/v1" + path, **values)
        if answer.is_error:
            _raise(answer)
        return answer

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            raise Unreachable(
                f"prefloop at {self.url} does not answer ({type(error).__name__})."
            ) from error


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Split at line feeds only: JSON texts may hold U+2028 and other ends that httpx splits at."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode() for line in whole)
    if rest:
        yield rest.decode()


def _raise(answer: httpx.Response) -> None:
    try:
        message = answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = f"The app answered {answer.status_code}: {answer.text[:200]}"
    raise ERRORS.get(answer.status_code, PrefloopError)(message)
