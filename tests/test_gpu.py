"""Training on an NVIDIA GPU: `make gpu-check`. The same code runs on a CPU here, made tiny."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from benchmarks.gpu_training import (
    HEADING,
    NEEDED_GB,
    PRECISIONS,
    Comparison,
    compare,
    made_model,
    one_card,
)
from benchmarks.precision_gap import SERVED, serving, trained
from train.base_model import STARTER, resolve
from train.launch import LaunchConfig
from train.policy.server import PolicyServer
from train.policy.sleep import TOKENS, is_same
from train.policy.vllm import SERVED_NAME, PolicyConfig
from train.precision import measure
from train.sharing import yielded

PICKS, WORDS = 48, 448  # 12 steps of 4 pairs, each pair about 1,000 tokens
SLOWEST = 0.85  # of stock TRL; adapters in float32 cost a little


@pytest.fixture(scope="module")
def card_gb() -> float:
    """Memory of the GPU."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch finds no NVIDIA GPU; `make gpu-check` runs this where there is one")
    return float(torch.cuda.get_device_properties(0).total_memory) / 1e9


@pytest.fixture(scope="module")
def model_7b(card_gb: float, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Random weights of about 15 GB, removed afterwards."""
    folder = tmp_path_factory.mktemp("model-7b")
    yield made_model(folder, "7b")
    for file in (folder / "model").iterdir():
        file.unlink()


@pytest.fixture(scope="module")
def compared() -> dict[str, Comparison]:
    """By precision, as far as measured."""
    return {}


@pytest.mark.gpu
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_7b_model_trains_as_fast_as_with_stock_trl(
    model_7b: Path, card_gb: float, compared: dict[str, Comparison], precision: str
) -> None:
    needed = NEEDED_GB["7b"][precision]
    if card_gb < needed:
        pytest.skip(f"{precision} needs a card of {needed} GB; this one has {card_gb:.0f} GB")
    found = compared[precision] = compare(model_7b, precision, PICKS, WORDS)
    print(f"\n{HEADING}\n{found.line(precision)}")
    check(found)
    assert found.ours.memory_mb < 1000 * card_gb


@pytest.mark.gpu
def test_four_bits_need_less_memory_than_sixteen(
    card_gb: float, compared: dict[str, Comparison]
) -> None:
    if compared.keys() != set(PRECISIONS):
        pytest.skip(f"A card of {card_gb:.0f} GB does not hold both precisions")
    assert compared["nf4"].ours.memory_mb < 0.75 * compared["bf16"].ours.memory_mb


@pytest.mark.gpu
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_policy_that_is_served_on_the_gpu_is_the_one_that_was_trained(
    card_gb: float, tmp_path: Path, precision: str
) -> None:
    base = resolve(STARTER)
    runs = {precision: trained(tmp_path / "run", base, precision, picks=100)}
    log = tmp_path / "vllm.log"
    with serving(base, SERVED[precision], runs, log) as client:
        found = measure(client, f"policy-{precision}", runs[precision])
    assert found is not None
    print(f"\n{precision}: {found.mean:.4f} per token, largest {found.max:.3f}")
    assert found.warning is None


@pytest.mark.gpu
@pytest.mark.parametrize("sharing", ["sleep", "stop"])
def test_vllm_gives_its_memory_to_a_run_and_answers_afterwards_as_before(
    card_gb: float, tmp_path: Path, sharing: Literal["sleep", "stop"]
) -> None:
    config = PolicyConfig(device="cuda", gpu_memory=0.5)
    server = PolicyServer(config, resolve(STARTER), tmp_path / "vllm.log", can_sleep=True)
    server.start()
    try:
        server.wait_up(config.start_timeout_s)
        before, served_gb = server.client.greedy(SERVED_NAME, TOKENS), used_gb()
        with yielded(server, LaunchConfig(gpu_sharing=sharing)):
            resting_gb = used_gb()
        server.wait_up(config.start_timeout_s)
        after = server.client.greedy(SERVED_NAME, TOKENS)
    finally:
        server.stop()
    print(f"\n{sharing}: {served_gb:.1f} GB of the card while it serves, {resting_gb:.1f} at rest")
    assert is_same(before, after)
    assert served_gb - resting_gb > 0.3 * card_gb  # of the half; context and graphs stay


def used_gb() -> float:
    """Memory of the card that any process has taken."""
    import torch

    free, whole = torch.cuda.mem_get_info()
    return float(whole - free) / 1e9


@pytest.mark.parametrize(
    ("given", "seen"),
    [({}, "0"), ({"CUDA_VISIBLE_DEVICES": "3,1"}, "3"), ({"CUDA_VISIBLE_DEVICES": ""}, "")],
)
def test_of_several_cards_both_sides_use_the_first(given: dict[str, str], seen: str) -> None:
    assert one_card(given) == {"CUDA_VISIBLE_DEVICES": seen}


@pytest.mark.slow
def test_the_same_check_on_a_tiny_model(tmp_path: Path) -> None:
    """Without a GPU: nothing of the check itself is broken."""
    found = compare(made_model(tmp_path, "tiny"), "nf4", picks=8, words=12)
    check(found, slowest=0.0)  # two steps of a tiny model on a busy machine say nothing about speed


def check(found: Comparison, slowest: float = SLOWEST) -> None:
    assert found.ours.tokens_per_second > 0
    assert found.ours.memory_mb > 0 and found.stock.memory_mb > 0
    assert found.ratio > slowest
