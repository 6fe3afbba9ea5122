"""prefloop: the command line, and the one place where the owners of state are made and wired.

They are stopped in reverse order.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, get_type_hints

import typer

from annotate.accounts import Accounts
from annotate.api_client import ApiClient
from annotate.app_file import ADMIN, announced, as_typed, running_app
from annotate.command_options import ConfigOption, DataDirOption
from annotate.commands import add_commands
from annotate.desk import Desk, DeskConfig
from annotate.research import Research
from annotate.sampler import Sampler, SamplerConfig
from annotate.web_server import bind, host_names, session_key, web_server
from store import prompts
from store.configuration import Values, load
from store.database import Store
from store.prompts import NewPrompt
from store.rows import Message, PrefloopError
from train import sharing
from train.base_model import resolve
from train.gate import GateConfig
from train.loop import TrainLoop
from train.policy.registry import PolicyRegistry
from train.policy.server import PolicyServer, ServerDown
from train.policy.vllm import PolicyConfig
from train.run_config import TrainConfig
from train.runs import Trainer
from train.starter.grammar import starter_prompts
from train.trial import Trial
from train.triggers import LoopConfig

VERSION = "0.1.0"
cli = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Pick the better of two answers; the model learns from it.",
)


@dataclass(frozen=True)
class AppConfig:
    data_dir: str = "data"
    host: str = "127.0.0.1"
    port: int = 7860
    browser: bool = True  # open the sign-in link at start
    https: bool = False  # cookies only over https: set it behind a TLS proxy
    allowed_hosts: tuple[str, ...] = ()  # further host names under which the pages are reached


@dataclass(frozen=True)
class Config:
    """One field for each section of prefloop.toml."""

    app: AppConfig
    policy: PolicyConfig
    sampler: SamplerConfig
    desk: DeskConfig
    train: TrainConfig
    loop: LoopConfig
    gate: GateConfig

    @property
    def data_dir(self) -> Path:
        return Path(self.app.data_dir).expanduser()


def read_config(file: Path | None, flags: Values) -> Config:
    """prefloop.toml (or `file`), then the environment, then flags that are not None.

    Raises BadConfiguration.
    """
    default = Path("prefloop.toml")
    found = file or (default if default.exists() else None)
    given = {
        section: {key: value for key, value in entries.items() if value is not None}
        for section, entries in flags.items()
    }
    return Config(**load(get_type_hints(Config), found, os.environ, given))


@dataclass(frozen=True)
class RunningApp:
    url: str
    token: str  # an admin's
    server: PolicyServer


@contextmanager
def running(
    config: Config, file: Path | None, *, policy: bool, automatic: bool
) -> Iterator[RunningApp]:
    """The whole app. `file`: given as --config. `policy`: with vLLM. `automatic`: rounds start by
    themselves."""
    sharing.check(config.train, config.policy)
    with ExitStack() as owned:
        store = owned.enter_context(Store.open(config.data_dir))
        base = resolve(config.policy.model)
        log_path = config.data_dir / "logs" / "policy-server.log"
        can_sleep = config.train.gpu_sharing == "sleep"
        server = PolicyServer(config.policy, base, log_path, can_sleep)
        owned.callback(server.stop)
        if policy:
            server.start()
        # Gradio's import takes seconds; vLLM starts meanwhile.
        from annotate.api import api_router
        from annotate.web import create_app

        registry = PolicyRegistry(store, server)
        registry.prepare()
        seed_prompts(store)
        sampler = Sampler(store, server.client, config.sampler, config.desk.overlap)
        owned.callback(sampler.stop)
        trainer = Trainer(store, server, config.train, sampler.stock_up)
        when = config.loop if automatic else config.loop.by_hand()
        trial = Trial(store, registry, config.gate, sampler.sampling, config.loop.probes)
        loop = TrainLoop(store, registry, trainer, trial, when, sampler.wake)
        owned.callback(loop.stop)
        desk = Desk(store, sampler, server, config.desk)
        research = Research(store, registry, loop, file)
        accounts = Accounts(store)
        site = create_app(
            desk=desk,
            research=research,
            accounts=accounts,
            api=api_router(desk, research, accounts, VERSION),
            session_key=session_key(config.data_dir),
            secure_cookie=config.app.https,
            allowed_hosts=host_names(config.app.host, config.app.allowed_hosts),
            version=VERSION,
        )
        loop.start(resume=automatic)
        if policy:
            sampler.start()
        url = owned.enter_context(web_server(site, config.app.host, config.app.port))
        token = owned.enter_context(announced(config.data_dir, url, store))
        yield RunningApp(url, token, server)


def seed_prompts(store: Store) -> None:
    """The pool is never empty at the first start: it holds what the starter can be asked."""
    if prompts.count(store) == 0:
        asked: list[Message] = [{"role": "user", "content": text} for text in starter_prompts()]
        prompts.add(store, [NewPrompt([message], ("starter",)) for message in asked], "starter")


@contextmanager
def connect(
    config_file: Path | None, data_dir: Path | None, *, policy: bool = False
) -> Iterator[ApiClient]:
    """The app that runs on this data directory, or one of our own while the command takes."""
    config = read_config(config_file, {"app": {"data_dir": data_dir and str(data_dir)}})
    if found := running_app(config.data_dir):
        with ApiClient(found["url"], found["token"]) as client:
            yield client
        return
    log_to(config.data_dir, console=False)
    quiet = replace(config, app=replace(config.app, host="127.0.0.1", port=0, browser=False))
    with running(quiet, config_file, policy=policy, automatic=False) as app:
        if policy:
            app.server.wait_up(config.policy.start_timeout_s)
        with ApiClient(app.url, app.token, temporary=True) as client:
            yield client


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
    given = {
        "data_dir": data_dir and str(data_dir),
        "host": host,
        "port": port,
        "browser": False if no_browser else None,
    }
    settings = read_config(config, {"app": given, "policy": {"model": model}})
    bind(settings.app.host, settings.app.port).close()  # before minutes of preparation, not after
    log_to(settings.data_dir, console=True)
    asked: list[int] = []  # signals; a list, because setting an Event in a handler can deadlock
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: asked.append(number))
    with running(settings, config, policy=True, automatic=True) as app:
        greet(app, settings)
        wait_for_end(app.server, asked)
        print("Stopping.", flush=True)


def greet(app: RunningApp, config: Config) -> None:
    with ApiClient(app.url, app.token) as client:
        links = [app.url + client.post(f"/users/{ADMIN}/link")["path"] for _ in range(2)]
    print(f"prefloop {VERSION} serves {config.policy.model}; data in {config.data_dir.resolve()}")
    print(f"Sign in: {links[0]}")
    again = f"{as_typed()} users link {ADMIN}"
    print(f"         (good for one sign-in; `{again}` makes another)", flush=True)
    if config.app.browser and (os.environ.get("DISPLAY") or sys.platform == "darwin"):
        webbrowser.open(links[1])


def wait_for_end(server: PolicyServer, asked: list[int]) -> None:
    """Until a signal asks for the end. Raises ServerDown when vLLM's very first start fails."""
    failed: list[ServerDown] = []

    def watch() -> None:
        try:
            server.wait_up(server.config.start_timeout_s)
            print("Policy server up; pairs are ready in a moment.", flush=True)
        except ServerDown as error:
            failed.append(error)

    threading.Thread(target=watch, daemon=True).start()
    while not asked and not failed:
        time.sleep(0.2)
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

    settings = read_config(config, {"app": {"data_dir": data_dir and str(data_dir)}})
    healthy = examine(settings.data_dir, settings.policy, running_app(settings.data_dir), repair)
    raise typer.Exit(0 if healthy else 1)


def log_to(data_dir: Path, *, console: bool) -> None:
    """Everything to logs/app.log; warnings also to the console of `serve`. Makes the directory."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # holds password hashes
        (data_dir / "logs").mkdir(exist_ok=True)
        handlers: list[logging.Handler] = [logging.FileHandler(data_dir / "logs" / "app.log")]
    except OSError as error:
        raise PrefloopError(
            f"The data directory {data_dir} cannot be used ({error.strerror}). "
            "Choose another --data-dir."
        ) from None
    if console:
        handlers.append(logging.StreamHandler())
        handlers[-1].setLevel(logging.WARNING)
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, handlers=handlers)
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
