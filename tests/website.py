"""The whole web app over a real store, served over HTTP, with a policy server that never starts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from annotate.accounts import Accounts
from annotate.api import api_router
from annotate.desk import Desk, DeskConfig
from annotate.research import Research
from annotate.sampler import Sampler, SamplerConfig
from annotate.web import create_app
from annotate.web_server import web_server
from store import users
from store.database import Store
from store.rows import ROLES
from train.base_model import BaseModel
from train.gate import GateConfig
from train.loop import LoopConfig, TrainLoop
from train.policy.registry import PolicyRegistry
from train.policy.server import PolicyServer
from train.policy.vllm import PolicyConfig
from train.run_config import TrainConfig
from train.runs import Trainer
from train.trial import Trial

SESSION_KEY = "a key for these tests only"


@dataclass
class Site:
    app: FastAPI
    store: Store
    accounts: Accounts
    url: str
    desk: Desk
    server: PolicyServer
    sampler: Sampler
    trainer: Trainer

    def visitor(self) -> httpx.Client:
        """A browser of its own without a login."""
        return httpx.Client(base_url=self.url, timeout=20)

    @contextmanager
    def signed_in(self, name: str) -> Iterator[httpx.Client]:
        with self.visitor() as client:
            answer = client.get("/sign-in", params={"token": self.link(name)})
            assert answer.status_code == 303, answer.text
            yield client

    def link(self, name: str) -> str:
        """The secret of a fresh one-time link."""
        return self.accounts.link(users.named(self.store, name))


@contextmanager
def made_site(
    data_dir: Path,
    policy_url: str = "",
    settings: DeskConfig | None = None,
    port: int = 0,
    config_file: Path | None = None,
) -> Iterator[Site]:
    """Its users are named like their roles. `policy_url`: a stand-in that conversations ask. A
    second one over the same folder and port is the first one after a restart."""
    with ExitStack() as owned:
        store = owned.enter_context(Store.open(data_dir))
        base, policy = BaseModel("base", data_dir, 2_000_000), PolicyConfig(url=policy_url)
        server = PolicyServer(policy, base, data_dir / "policy-server.log")
        owned.callback(server.stop)
        desk_config = settings or DeskConfig()
        sampler = Sampler(store, server.client, SamplerConfig(), desk_config.overlap)
        owned.callback(sampler.stop)
        registry = PolicyRegistry(store, server)
        trainer = Trainer(store, server, TrainConfig())
        trial = Trial(store, registry, GateConfig(), sampler.sampling, probes=4)
        loop = TrainLoop(store, registry, trainer, trial, LoopConfig(), sampler.wake)
        desk = Desk(store, sampler, server, desk_config)
        research = Research(store, registry, loop, config_file)
        accounts = Accounts(store)
        for role in ROLES:
            users.ensure(store, role, role, "human")
        app = create_app(
            desk=desk,
            research=research,
            accounts=accounts,
            api=api_router(desk, research, accounts, "0"),
            session_key=SESSION_KEY,
            secure_cookie=False,
            allowed_hosts=["127.0.0.1"],
            version="0",
        )
        url = owned.enter_context(web_server(app, "127.0.0.1", port))
        yield Site(app, store, accounts, url, desk, server, sampler, trainer)


def error_code(answer: httpx.Response) -> str:
    """The code of an error in our form, which holds a sentence and nothing unexpected."""
    body = answer.json()
    assert body.keys() == {"error"}
    assert (
        {"code", "message"} <= body["error"].keys() <= {"code", "message", "hint", "key", "values"}
    )
    assert body["error"]["message"]
    return body["error"]["code"]


def press(client: httpx.Client, elem_id: str, *values: Any, page: str = "/annotate") -> str:
    """Fire the page function behind a button, or that of the page's load for elem_id "", as a
    browser does. Returns all that the server sent back."""
    call = {"fn_index": function_of(client, elem_id, page), "data": list(values)}
    joined = client.post(f"{page}/gradio_api/queue/join", json=call | {"session_hash": "tests"})
    assert joined.status_code == 200, joined.text
    seen = []
    with client.stream("GET", f"{page}/gradio_api/queue/data?session_hash=tests") as answer:
        for line in answer.iter_lines():
            seen.append(line)
            if '"process_completed"' in line:
                break
    return "\n".join(seen)


def function_of(client: httpx.Client, elem_id: str, page: str) -> int:
    config = client.get(f"{page}/config").json()
    ids = {c["props"].get("elem_id"): c["id"] for c in config["components"]}
    wanted = [ids[elem_id], "click"] if elem_id else "load"
    for function in config["dependencies"]:
        for target in function["targets"]:
            if list(target) == wanted or target[1] == wanted:
                return int(function["id"])
    raise AssertionError(f"no function behind {elem_id!r}: {json.dumps(config['dependencies'])}")
