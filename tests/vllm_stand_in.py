"""A small real HTTP server that speaks vLLM's routes, for faults that the real one shows rarely."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, Any]]
END = "data: [DONE]"


class StandIn:
    """Holds adapters by name and folder. `answers` decides what a completion request gets."""

    def __init__(self, port: int = 0) -> None:
        self.adapters: dict[str, str] = {}
        self.log: list[tuple[str, str]] = []  # (load, unload, sleep or wake, name)
        self.asked: list[dict[str, Any]] = []  # bodies of completion requests
        self.hang_up_on_load = 0  # this many loads end without an answer
        self.hang_up_on_wake = 0
        self.answers: Callable[[dict[str, Any]], Answer] = lambda body: (200, completion(body))
        # Lines of a streamed answer; one that is None is a hang-up.
        self.streams: Callable[[dict[str, Any]], Iterable[str | None]] = streamed
        self.gone = threading.Event()  # a reader of a stream went away
        self.healthy = True
        self.can_sleep = True  # started with --enable-sleep-mode and its routes
        self.awake = threading.Event()
        self.awake.set()
        self.on_wake: Callable[[], None] = lambda: None  # what a sleep breaks
        self.http = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def handle(self, path: str, body: dict[str, Any]) -> Answer | None:
        """None: hang up."""
        if path.startswith(("/sleep?", "/wake_up", "/is_sleeping")):
            return self.rest(path)
        if path == "/health" and not self.healthy:
            return 503, {}
        if path == "/v1/models":
            models = [{"id": name, "root": root} for name, root in self.adapters.items()]
            return 200, {"data": models}
        if path == "/v1/load_lora_adapter":
            self.log.append(("load", body["lora_name"]))
            if self.hang_up_on_load:
                self.hang_up_on_load -= 1
                return None
            self.adapters[body["lora_name"]] = body["lora_path"]
        if path == "/v1/unload_lora_adapter":
            self.log.append(("unload", body["lora_name"]))
            self.adapters.pop(body["lora_name"], None)
        if path == "/v1/chat/completions":
            if body["model"] not in self.adapters:
                return 404, {"error": {"message": f"The model {body['model']} does not exist."}}
            self.asked.append(body)
            self.awake.wait(30)  # vLLM takes requests while it sleeps, and answers afterwards
            return self.answers(body)
        return 200, {}

    def rest(self, path: str) -> Answer | None:
        if not self.can_sleep:
            return 404, {"detail": "Not Found"}
        if path == "/sleep?level=1&mode=wait":
            self.log.append(("sleep", "1"))
            self.awake.clear()
        if path == "/wake_up":
            self.log.append(("wake", ""))
            if self.hang_up_on_wake:
                self.hang_up_on_wake -= 1
                return None
            self.on_wake()
            self.awake.set()
        return 200, {"is_sleeping": not self.awake.is_set()}


def completion(body: dict[str, Any], text: str = "Bees dance to tell where food is.") -> Any:
    """A whole answer for each of the n that were asked for, all of them different."""
    choices = [
        {
            "index": index,
            "finish_reason": "stop",
            "message": {"content": f"{text} {body['seed'] + index}"},
            "token_ids": [1, 2],
            "logprobs": {"content": [{"logprob": -0.5}, {"logprob": -0.25}]},
        }
        for index in range(body["n"])
    ]
    return {"choices": choices, "prompt_token_ids": [7]}


def streamed(body: dict[str, Any]) -> Iterator[str]:
    """The whole answers of `completion`, word by word, one choice after the other as vLLM does."""
    whole = completion(body)
    words = [re.findall(r"\S+\s*", choice["message"]["content"]) for choice in whole["choices"]]
    yield event({"prompt_token_ids": whole["prompt_token_ids"], "choices": []})
    for step, row in enumerate(zip(*words, strict=True)):
        last = step == len(words[0]) - 1
        for index, word in enumerate(row):
            yield event({"choices": [piece(index, word, "stop" if last else None)]})
    yield END


def piece(index: int, text: str, finish: str | None = None, logprob: float = -0.5) -> Any:
    return {
        "index": index,
        "delta": {"content": text},
        "finish_reason": finish,
        "token_ids": [index + 1],
        "logprobs": {"content": [{"logprob": logprob}]},
    }


def event(value: Any) -> str:
    return "data: " + json.dumps(value, ensure_ascii=False)


@contextmanager
def stand_in(port: int = 0) -> Iterator[StandIn]:
    """`port`: of one before, to come back as that one."""
    made = StandIn(port)
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield made
    finally:
        made.awake.set()
        made.http.shutdown()
        thread.join()
        made.http.server_close()


def _handler(owner: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # for streams in chunks

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            sent = self.rfile.read(length)
            asked = json.loads(sent) if sent else {}
            answer = owner.handle(self.path, asked)
            self.close_connection = True
            if asked.get("stream") and answer and answer[0] == 200:
                self.stream(owner.streams(asked))
                return
            if answer is None:
                return
            status, body = answer
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Connection", "close")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def stream(self, lines: Iterable[str | None]) -> None:
            self.send_response(200)
            self.send_header("Connection", "close")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                for line in lines:
                    if line is None:
                        return
                    data = f"{line}\n\n".encode()
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                    self.wfile.flush()
                self.wfile.write(b"0\r\n\r\n")
            except (BrokenPipeError, ConnectionResetError):
                owner.gone.set()

        do_POST = do_GET  # noqa: N815 - the name that the base class calls

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
