"""Our client of the HTTP API against a real server that answers as the app on a bad day."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from annotate.api_client import ApiClient, Unreachable
from store.rows import Conflict, Invalid, NotFound, PrefloopError
from tests.one_answer import Server, free_port, one_answer


@pytest.fixture
def server() -> Iterator[Server]:
    with one_answer() as made:
        yield made


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
