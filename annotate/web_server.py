"""The HTTP server in a thread, and what it needs from the machine: a port, host names, a key."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from store.rows import PrefloopError

EVERYWHERE = ("0.0.0.0", "::")
KEY_LENGTH = 64  # characters of 48 random bytes


@contextmanager
def web_server(site: Any, host: str, port: int) -> Iterator[str]:
    """uvicorn in a thread, so that the main thread is free for signals. Yields the URL."""
    import uvicorn

    bound = bind(host, port)
    # Gradio keeps an event stream open in every tab, so a graceful end needs a limit.
    config = uvicorn.Config(
        site, log_config=None, access_log=False, timeout_graceful_shutdown=2, lifespan="on"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, name="web")
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.02)
        if not thread.is_alive():
            raise PrefloopError("The web server did not start; logs/app.log says why.")
        yield url_of(host, bound.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()
        bound.close()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises PrefloopError."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen()  # two sockets may be bound to one port, but only one may listen
    except (OSError, OverflowError) as error:
        bound.close()
        reason = getattr(error, "strerror", None) or error
        raise PrefloopError(
            f"Cannot listen on {host}:{port} ({reason}). "
            "Stop the program that uses it, or choose another --host or --port."
        ) from None
    return bound


def url_of(host: str, port: int) -> str:
    """The address under which this machine reaches a server that listens on `host`."""
    shown = "127.0.0.1" if host in EVERYWHERE else host
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def host_names(host: str, further: Sequence[str]) -> list[str]:
    """Host names that a request may carry; any other could be a rebound DNS name."""
    names = {"localhost", "127.0.0.1", "[::1]", host, *further}
    if host in EVERYWHERE:
        names |= {socket.gethostname(), socket.getfqdn()}
    return sorted(names)


def session_key(data_dir: Path) -> str:
    """One secret for each installation, so that sessions survive restarts."""
    path, tmp = data_dir / "session.key", data_dir / "session.key.tmp"
    if not path.exists() or len(path.read_text()) < KEY_LENGTH:  # a crash may leave it empty
        with os.fdopen(os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
        os.replace(tmp, path)
    return path.read_text()
