"""The real vLLM: an external server by URL, the all-zero adapter, a server that fails to start."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from store.database import Store
from store.rows import Completion, Invalid
from tests.served_app import ROOT
from train.base_model import BaseModel, count_parameters
from train.policy.client import AdapterRefused, GenerationFailed, PromptRefused, Sampling
from train.policy.registry import BASE_POLICY, PolicyRegistry
from train.policy.server import PolicyServer
from train.policy.vllm import PolicyConfig, vllm_command
from train.process import ChildProcess

pytestmark = pytest.mark.slow
ASK = [{"role": "user", "content": "Tell me about bread."}]


@dataclass
class External:
    server: PolicyServer
    folder: Path  # of policy-000000

    def sample(self, seed: int, n: int = 2) -> list[Completion]:
        sampled = self.server.client.sample(BASE_POLICY, ASK, n=n, seed=seed, sampling=Sampling())
        return sampled.completions


@pytest.fixture(scope="module")
def external(starter_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[External]:
    """vLLM started by hand on a TCP port, used through `policy.url` as somebody else's server."""
    folder = tmp_path_factory.mktemp("external")
    base = BaseModel("starter", starter_dir, count_parameters(starter_dir))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command, env = vllm_command(PolicyConfig(), base, Path("unused"))
    at = command.index("--uds")
    command[at : at + 2] = ["--host", "127.0.0.1", "--port", str(port)]
    child = ChildProcess(command, folder / "vllm.log", env)
    server = PolicyServer(PolicyConfig(url=f"http://127.0.0.1:{port}"), base, folder / "none.log")
    try:
        with Store.open(folder / "data") as store:
            server.start()
            PolicyRegistry(store, server).prepare()
            server.wait_up(240)
            yield External(server, folder / "data" / "policies" / BASE_POLICY)
    finally:
        server.stop()
        child.stop()


def test_pair_of_one_request_is_repeatable_and_seeds_are_spaced(external: External) -> None:
    first, again = external.sample(seed=100), external.sample(seed=100)
    assert [c.token_ids for c in first] == [c.token_ids for c in again]
    assert [c.seed for c in first] == [100, 101]
    assert external.sample(seed=101, n=1)[0].token_ids == first[1].token_ids
    for completion in first:
        assert completion.logprob_count == len(completion.token_ids) > 0
        assert completion.logprob_sum is not None and completion.logprob_sum < 0
        assert completion.policy_id == BASE_POLICY


def test_scoring_an_answer_gives_the_log_probabilities_of_writing_it(external: External) -> None:
    client = external.server.client
    sampled = client.sample(BASE_POLICY, ASK, n=1, seed=3, sampling=Sampling())
    (written,) = sampled.completions
    scored = client.score(BASE_POLICY, sampled.prompt_token_ids, written.token_ids)
    assert len(scored) == written.logprob_count
    assert sum(scored) == pytest.approx(written.logprob_sum, abs=0.01 * len(scored))
    with pytest.raises(PromptRefused):
        client.score(BASE_POLICY, sampled.prompt_token_ids, [5] * PolicyConfig().context)


def test_pairs_are_the_same_alone_and_in_a_full_batch(external: External) -> None:
    """Adapters that share a batch must not leak into each other (the trap of the CPU kernels)."""
    copies = [f"policy-90000{number}" for number in range(3)]
    for name in copies:
        external.server.load(name, external.folder)
    alone = external.sample(seed=7)

    def ask(name: str) -> list[list[int]]:
        sampled = external.server.client.sample(name, ASK, n=2, seed=7, sampling=Sampling())
        return [completion.token_ids for completion in sampled.completions]

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(ask, [BASE_POLICY, *copies] * 4))
    assert all(tokens == [c.token_ids for c in alone] for tokens in together)
    for name in copies:
        external.server.unload(name)
    assert not set(copies) & set(external.server.client.adapters())


def test_refused_adapter_leaves_the_server_working(external: External, tmp_path: Path) -> None:
    with pytest.raises(AdapterRefused, match="policy-999999"):
        external.server.load("policy-999999", tmp_path / "nothing")
    with pytest.raises(GenerationFailed, match="404"):
        external.server.client.probe("policy-999999")
    external.server.client.probe(BASE_POLICY)


def test_vllm_that_does_not_come_up_ends_serve_with_its_log(
    starter_dir: Path, tmp_path: Path
) -> None:
    config = tmp_path / "prefloop.toml"
    config.write_text("[policy]\ncontext = 999999\n")  # far beyond what the model can do
    done = subprocess.run(
        [sys.executable, "app.py", "serve", "--config", str(config), "--port", "0", "--no-browser",
         "--data-dir", str(tmp_path / "d")],
        cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "The policy server did not come up. The end of its log" in done.stderr
    assert "999999" in done.stderr
    assert len(done.stderr.split("The end of its log")[1].splitlines()) <= 22
    with Store.open(tmp_path / "d") as store:  # nothing holds the folder any more
        assert store.read_one("select count(*) as n from judgment") == {"n": 0}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"max_rank": 12}, "policy.max_rank must be one of 1, 8, 16, 32,"),
        ({"context": 0}, "policy.context must be at least 1, not 0."),
        ({"gpu_memory": 40}, "policy.gpu_memory is a share of the card, not 40."),
    ],
)
def test_a_configuration_that_cannot_work(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Invalid) as caught:
        PolicyConfig(**values)
    assert sentence in str(caught.value)
