"""prefloop: command line, and the one place where the owners of state are made, wired and stopped
in reverse order."""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from annotate.api_client import ApiClient
from annotate.commands import ConfigOption, DataDirOption, add_commands
from annotate.sampler import Sampler, SamplerConfig
from store import prompts, users
from store.configuration import Values, load
from store.database import Store
from store.prompts import NewPrompt
from store.rows import PrefloopError
from train.base_model import resolve
from train.gate import GateConfig
from train.loop import LoopConfig, TrainLoop
from train.policy.registry import PolicyRegistry
from train.policy.server import PolicyConfig, PolicyServer, ServerDown
from train.runs import TrainConfig, Trainer
from train.starter.grammar import starter_prompts

VERSION = "0.1.0"
ADMIN = "admin"
log = logging.getLogger("prefloop")
cli = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__
)


@dataclass(frozen=True)
class AppConfig:
    data_dir: str = "data"
    host: str = "127.0.0.1"
    port: int = 7860
    browser: bool = True  # open the sign-in link at start
    https: bool = False  # cookies only over https: set it behind a TLS proxy
    allowed_hosts: tuple[str, ...] = ()  # further host names under which the pages are reached


SECTIONS: dict[str, type] = {
    "app": AppConfig,
    "policy": PolicyConfig,
    "sampler": SamplerConfig,
    "train": TrainConfig,
    "loop": LoopConfig,
    "gate": GateConfig,
}


@dataclass(frozen=True)
class Config:
    app: AppConfig
    policy: PolicyConfig
    sampler: SamplerConfig
    train: TrainConfig
    loop: LoopConfig
    gate: GateConfig

    @property
    def data_dir(self) -> Path:
        return Path(self.app.data_dir).expanduser()


def read_config(file: Path | None, flags: Values) -> Config:
    """prefloop.toml (or `file`), then the environment, then flags. Raises BadConfiguration."""
    default = Path("prefloop.toml")
    return Config(
        **load(SECTIONS, file or (default if default.exists() else None), os.environ, flags)
    )


@contextmanager
def running(config: Config, *, policy: bool, automatic: bool) -> Iterator[tuple[str, PolicyServer]]:
    """The whole app; yields its URL. `policy`: with vLLM. `automatic`: rounds start by
    themselves."""
    from annotate.accounts import Accounts
    from annotate.api import api_router
    from annotate.desk import Desk
    from annotate.research import Research
    from annotate.web import create_app  # imports gradio, which takes seconds

    with ExitStack() as owned:
        store = owned.enter_context(Store.open(config.data_dir))
        base = resolve(config.policy.model)
        server = PolicyServer(config.policy, base, config.data_dir / "logs" / "policy-server.log")
        owned.callback(server.stop)
        if policy:
            server.start()
        registry = PolicyRegistry(store, server)
        registry.prepare()
        seed_prompts(store)
        sampler = Sampler(store, server.client, config.sampler)
        owned.callback(sampler.stop)
        trainer = Trainer(store, base, config.train, config.policy)
        loop_config = (
            config.loop if automatic else replace(config.loop, every_picks=0, every_minutes=0)
        )
        loop = TrainLoop(store, registry, trainer, loop_config, config.gate, sampler.wake)
        owned.callback(loop.stop)
        desk, research, accounts = (
            Desk(store, sampler, server),
            Research(store, registry, loop),
            Accounts(store),
        )
        site = create_app(
            desk=desk,
            research=research,
            accounts=accounts,
            api=api_router(desk, research, accounts, VERSION),
            session_key=session_key(config.data_dir),
            secure_cookie=config.app.https,
            allowed_hosts=host_names(config.app),
            version=VERSION,
        )
        loop.start()
        if policy:
            sampler.start()
        url = owned.enter_context(web_server(site, config.app.host, config.app.port))
        owned.enter_context(announced(config.data_dir, url, store))
        yield url, server


def seed_prompts(store: Store) -> None:
    """The pool is never empty at the first start: the questions that the starter's grammar can
    ask."""
    if prompts.count(store) == 0:
        new = [
            NewPrompt([{"role": "user", "content": text}], ("starter",))
            for text in starter_prompts()
        ]
        prompts.add(store, new, "starter")


@contextmanager
def web_server(site: Any, host: str, port: int) -> Iterator[str]:
    """uvicorn in a thread, so that the main thread is free for signals. Port 0 takes a free one."""
    import uvicorn

    bound = bind(host, port)
    server = uvicorn.Server(
        # Gradio keeps an event stream open in every tab, so a graceful end needs a limit.
        uvicorn.Config(
            site, log_config=None, access_log=False, timeout_graceful_shutdown=2, lifespan="on"
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, name="web")
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.02)
        if not thread.is_alive():
            raise PrefloopError("The web server did not start; the log above says why.")
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        yield f"http://{shown}:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        bound.close()


def bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise PrefloopError(
            f"Cannot listen on {host}:{port} ({error.strerror}). Stop the program that uses it, or choose --port."
        ) from None
    return bound


@contextmanager
def announced(data_dir: Path, url: str, store: Store) -> Iterator[None]:
    """app.json lets commands find this app; its token is an admin's and new at every start."""
    admin = users.ensure(store, ADMIN, "admin", "human")
    users.end_tokens(store, admin.user_id, "app.json")
    token = users.issue(store, admin.user_id, "api", "app.json")
    path = data_dir / "app.json"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"url": url, "pid": os.getpid(), "token": token}, file)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def session_key(data_dir: Path) -> str:
    """One secret for each installation; sessions survive restarts."""
    path = data_dir / "session.key"
    with (
        suppress(FileExistsError),
        os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file,
    ):
        file.write(secrets.token_urlsafe(48))
    return path.read_text()


def host_names(config: AppConfig) -> list[str]:
    names = {"localhost", "127.0.0.1", "[::1]", config.host, *config.allowed_hosts}
    if config.host in ("0.0.0.0", "::"):
        names |= {socket.gethostname(), socket.getfqdn()}
    return sorted(names)


@contextmanager
def connect(
    config_file: Path | None, data_dir: Path | None, *, policy: bool = False
) -> Iterator[ApiClient]:
    """The app that runs on this data directory, or one of our own for as long as the command
    takes."""
    config = read_config(config_file, {"app": {"data_dir": str(data_dir)}} if data_dir else {})
    if found := running_app(config.data_dir):
        with ApiClient(found["url"], found["token"]) as client:
            yield client
        return
    quiet = replace(config, app=replace(config.app, host="127.0.0.1", port=0, browser=False))
    with running(quiet, policy=policy, automatic=False) as (url, server):
        if policy:
            server.wait_up(config.policy.start_timeout_s)
        token = json.loads((config.data_dir / "app.json").read_text())["token"]
        with ApiClient(url, token, temporary=True) as client:
            yield client


def running_app(data_dir: Path) -> dict[str, Any] | None:
    """What app.json says, when an app of that address answers."""
    path = data_dir / "app.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        httpx.get(found["url"] + "/healthz", timeout=5).raise_for_status()
    except (OSError, ValueError, KeyError, httpx.HTTPError):
        return None  # none was started, or it was killed and left the file
    return found


@cli.command()
def serve(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    model: Annotated[
        str | None, typer.Option(help="starter, a model folder, or a Hugging Face id.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Do not open a browser.")
    ] = False,
) -> None:
    """Run the app: policy server, annotate and research pages, training."""
    given = {"data_dir": str(data_dir) if data_dir else None, "host": host, "port": port}
    flags: Values = {"app": {key: value for key, value in given.items() if value is not None}}
    if no_browser:
        flags["app"]["browser"] = False
    if model is not None:
        flags["policy"] = {"model": model}
    settings = read_config(config, flags)
    log_to(settings.data_dir)
    bind(settings.app.host, settings.app.port).close()  # before minutes of preparation, not after
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with running(settings, policy=True, automatic=True) as (url, server):
        greet(url, settings)
        wait_for_end(server, stop)
        print("Stopping.", flush=True)


def greet(url: str, config: Config) -> None:
    token = json.loads((config.data_dir / "app.json").read_text())["token"]
    with ApiClient(url, token) as client:
        links = [url + client.post(f"/users/{ADMIN}/link")["path"] for _ in range(2)]
    print(f"prefloop {VERSION} serves {config.policy.model}; data in {config.data_dir.resolve()}")
    print(f"Sign in: {links[0]}")
    print("         (good for one sign-in; `prefloop users link admin` makes another)", flush=True)
    if config.app.browser and (os.environ.get("DISPLAY") or sys.platform == "darwin"):
        webbrowser.open(links[1])


def wait_for_end(server: PolicyServer, stop: threading.Event) -> None:
    """Until somebody asks for the end. Raises ServerDown when the very first start of vLLM
    fails."""
    failed: list[ServerDown] = []

    def watch() -> None:
        try:
            server.wait_up(server.config.start_timeout_s)
            print("Policy server up; pairs are ready in a moment.", flush=True)
        except ServerDown as error:
            failed.append(error)
            stop.set()

    threading.Thread(target=watch, daemon=True).start()
    while not stop.wait(0.5):
        pass
    if failed:
        raise failed[0]


@cli.command()
def doctor(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Bring back what only the journal has.")
    ] = False,
) -> None:
    """Check this machine and the data directory, one line each."""
    from annotate.doctor import examine

    settings = read_config(config, {"app": {"data_dir": str(data_dir)}} if data_dir else {})
    healthy = examine(settings.data_dir, settings.policy, running_app(settings.data_dir), repair)
    raise typer.Exit(0 if healthy else 1)


def log_to(data_dir: Path) -> None:
    (data_dir / "logs").mkdir(parents=True, exist_ok=True)
    form = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    to_file, to_console = (
        logging.FileHandler(data_dir / "logs" / "app.log"),
        logging.StreamHandler(),
    )
    to_console.setLevel(logging.WARNING)
    for handler in (to_file, to_console):
        handler.setFormatter(form)
    logging.basicConfig(level=logging.INFO, handlers=[to_file, to_console])
    logging.getLogger("httpx").setLevel(logging.WARNING)


add_commands(cli, connect)


def main() -> None:
    """Exit code 0 done, 1 failed with one clear sentence, 2 wrong usage."""
    try:
        cli()
    except PrefloopError as error:
        print(f"prefloop: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
