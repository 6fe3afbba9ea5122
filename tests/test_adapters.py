"""Adapters as files: what vLLM would serve wrongly is refused; publishing is whole or nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.full_disk import room_for
from train.policy.adapters import (
    MANIFEST,
    BadAdapter,
    check,
    publish,
    read_safetensors,
    verify,
)
from train.run_folder import ADAPTER

CONFIG, WEIGHTS = ADAPTER
SHAPES = {"model.layers.0.q_proj": [6, 4], "model.layers.0.down_proj": [4, 8]}
RANK, MAX_RANK = 2, 4
NAMES = {"float32": "F32", "float16": "F16", "uint16": "BF16", "int64": "I64"}
Tensors = dict[str, np.ndarray[Any, Any]]


def tensors(dtype: str = "float32") -> Tensors:
    made = {}
    for name, (rows, columns) in SHAPES.items():
        made[f"base_model.model.{name}.lora_A.weight"] = np.ones((RANK, columns), dtype)
        made[f"base_model.model.{name}.lora_B.weight"] = np.zeros((rows, RANK), dtype)
    return made


A = next(iter(tensors()))
CONFIGURED = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 4}


def safetensors(made: Tensors) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, tensor in made.items():
        data = tensor.tobytes()
        header[name] = {
            "dtype": NAMES[str(tensor.dtype)],
            "shape": list(tensor.shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def write(folder: Path, made: Tensors | None = None, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(CONFIGURED | config))
    (folder / WEIGHTS).write_bytes(safetensors(tensors() if made is None else made))
    return folder


def with_value(value: float, dtype: str = "float32") -> Tensors:
    made = tensors(dtype)
    made[A][0, 0] = value
    return made


def with_bits(bits: int) -> Tensors:
    made = tensors("uint16")
    made[A][0, 0] = bits
    return made


def without(key: str) -> Tensors:
    return {name: tensor for name, tensor in tensors().items() if name != key}


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint16"])
def test_a_sound_adapter_passes(dtype: str, tmp_path: Path) -> None:
    check(write(tmp_path / "new", tensors(dtype)), SHAPES, MAX_RANK)


@pytest.mark.parametrize("bits", [0x3F80, 0x7F7F, 0xFF7F], ids=["one", "largest", "smallest"])
def test_finite_bfloat16_passes(bits: int, tmp_path: Path) -> None:
    check(write(tmp_path / "new", with_bits(bits)), SHAPES, MAX_RANK)


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (with_value(float("nan")), "not finite"),
        (with_value(float("inf")), "not finite"),
        (with_value(float("-inf"), "float16"), "not finite"),
        (with_bits(0x7FC0), "not finite"),
        (with_bits(0xFF80), "not finite"),
        (tensors() | {A: np.ones((RANK, 5), "float32")}, "the base wants (2, 4)"),
        (tensors() | {A: np.ones((RANK + 1, 4), "float32")}, "the base wants (2, 4)"),
        (tensors() | {A: np.ones((RANK, 4), "int64")}, "cannot be read"),
        (tensors() | {"base_model.model.lm_head.lora_A.weight": np.ones((2, 4))}, "cannot be read"),
        (
            tensors() | {"base_model.model.lm_head.lora_A.weight": np.ones((2, 4), "float32")},
            "no place for base_model.model.lm_head",
        ),
        (
            tensors()
            | {A.replace("lora_A.weight", "lora_magnitude_vector"): np.ones(4, "float32")},
            "no place for",
        ),
        (without(A), "lora_A.weight is missing"),
        ({}, "holds no tensors"),
    ],
    ids=[
        "nan",
        "inf",
        "inf in half precision",
        "nan in bfloat16",
        "inf in bfloat16",
        "wrong width",
        "wrong rank",
        "integers",
        "double precision",
        "foreign module",
        "foreign part",
        "half a module",
        "empty",
    ],
)
def test_tensors_that_must_not_be_served(made: Tensors, problem: str, tmp_path: Path) -> None:
    NAMES.setdefault("float64", "F64")
    with pytest.raises(BadAdapter, match="The adapter is not valid") as caught:
        check(write(tmp_path / "new", made), SHAPES, MAX_RANK)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"r": MAX_RANK + 1}, "rank 5 is not between 1 and 4"),
        ({"r": 0}, "rank 0"),
        ({"r": None}, "rank None"),
        ({"r": "many"}, "rank many"),
        ({"use_dora": True}, "it uses use_dora"),
        ({"rank_pattern": {"q_proj": 3}}, "it uses rank_pattern"),
        ({"modules_to_save": ["lm_head"]}, "it uses modules_to_save"),
        ({"lora_bias": True}, "it uses lora_bias"),
        ({"layer_replication": [[0, 1]]}, "it uses layer_replication"),
        ({"bias": "all"}, "it trains biases"),
        ({"task_type": "SEQ_CLS"}, "not a LoRA of a causal language model"),
        ({"peft_type": "PROMPT_TUNING"}, "not a LoRA of a causal language model"),
    ],
    ids=str,
)
def test_configurations_that_must_not_be_served(
    config: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(BadAdapter, match="The adapter is not valid") as caught:
        check(write(tmp_path / "new", **config), SHAPES, MAX_RANK)
    assert problem in str(caught.value)


def header_of(value: Any) -> bytes:
    text = json.dumps(value).encode()
    return len(text).to_bytes(8, "little") + text


WHOLE = safetensors(tensors())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (WEIGHTS, b""),
        (WEIGHTS, WHOLE[:5]),
        (WEIGHTS, WHOLE[:40]),
        (WEIGHTS, WHOLE[:-1]),
        (WEIGHTS, b"\xff" * 64),
        (WEIGHTS, header_of([1, 2])),
        (WEIGHTS, header_of({A: 3})),
        (WEIGHTS, header_of({A: {"dtype": "F32", "shape": [2, 4]}})),
        (WEIGHTS, header_of({A: {"dtype": "F32", "shape": [2, 4], "data_offsets": [-32, 0]}})),
        (WEIGHTS, header_of({A: {"dtype": "F32", "shape": "x", "data_offsets": [0, 0]}})),
        (CONFIG, b""),
        (CONFIG, b"[]"),
        (CONFIG, b"\xff\xfe"),
        (WEIGHTS, None),
        (CONFIG, None),
    ],
)
def test_damaged_files_are_refused(name: str, content: bytes | None, tmp_path: Path) -> None:
    folder = write(tmp_path / "new")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(BadAdapter, match=r"is missing|cannot be read"):
        check(folder, SHAPES, MAX_RANK)


def test_at_most_three_problems_are_named(tmp_path: Path) -> None:
    broken = {name: tensor * np.float32("nan") for name, tensor in tensors().items()}
    with pytest.raises(BadAdapter) as caught:
        check(write(tmp_path / "new", broken), SHAPES, MAX_RANK)
    assert str(caught.value).count("not finite") == 3


def test_tensors_are_read_as_they_were_written(tmp_path: Path) -> None:
    folder = write(tmp_path / "new", with_value(2.5))
    read = read_safetensors(folder / WEIGHTS)
    assert read.keys() == tensors().keys()
    assert read[A].tolist() == with_value(2.5)[A].tolist()


def test_publishing_copies_the_files_and_writes_their_sums(tmp_path: Path) -> None:
    folder = write(tmp_path / "new")
    (folder / "training_args.bin").write_bytes(b"not served")
    target, digest = publish(folder, tmp_path / "policies", "policy-000001", SHAPES, MAX_RANK)
    assert target == tmp_path / "policies" / "policy-000001"
    assert {path.name for path in target.iterdir()} == {*ADAPTER, MANIFEST}
    manifest = json.loads((target / MANIFEST).read_text())
    assert manifest["policy_id"] == "policy-000001"
    for name in ADAPTER:
        content = (target / name).read_bytes()
        assert content == (folder / name).read_bytes()
        assert manifest["sha256"][name] == hashlib.sha256(content).hexdigest()
    verify(target, digest)


def test_a_published_name_is_never_used_again(tmp_path: Path) -> None:
    publish(write(tmp_path / "one"), tmp_path / "policies", "policy-000001", SHAPES, MAX_RANK)
    before = (tmp_path / "policies" / "policy-000001" / WEIGHTS).read_bytes()
    other = write(tmp_path / "two", with_value(9.0))
    with pytest.raises(BadAdapter, match="policy-000001 is published already"):
        publish(other, tmp_path / "policies", "policy-000001", SHAPES, MAX_RANK)
    assert (tmp_path / "policies" / "policy-000001" / WEIGHTS).read_bytes() == before


def test_a_bad_adapter_leaves_nothing_behind(tmp_path: Path) -> None:
    bad = write(tmp_path / "bad", with_value(float("nan")))
    with pytest.raises(BadAdapter):
        publish(bad, tmp_path / "policies", "policy-000001", SHAPES, MAX_RANK)
    assert not list((tmp_path / "policies").glob("*"))


def test_what_a_crash_left_half_copied_does_not_matter(tmp_path: Path) -> None:
    half = tmp_path / "policies" / ".policy-000001.tmp"
    half.mkdir(parents=True)
    (half / "stranger").write_text("of the crash")
    target, _ = publish(
        write(tmp_path / "new"), tmp_path / "policies", "policy-000001", SHAPES, MAX_RANK
    )
    assert {path.name for path in target.iterdir()} == {*ADAPTER, MANIFEST}
    assert not half.exists()


def test_a_disk_that_fills_up_while_it_is_copied_gets_its_room_back(tmp_path: Path) -> None:
    folder, policies = write(tmp_path / "new"), tmp_path / "policies"
    with room_for(100), pytest.raises(OSError, match="File too large"):
        publish(folder, policies, "policy-000001", SHAPES, MAX_RANK)
    assert not list(policies.iterdir())
    publish(folder, policies, "policy-000001", SHAPES, MAX_RANK)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip(folder / WEIGHTS),
        lambda folder: flip(folder / CONFIG),
        lambda folder: (folder / WEIGHTS).unlink(),
    ],
    ids=["weights", "configuration", "missing"],
)
def test_a_changed_file_is_detected(damage: Callable[[Path], None], tmp_path: Path) -> None:
    target, digest = publish(
        write(tmp_path / "new"), tmp_path / "policies", "policy-000001", SHAPES, MAX_RANK
    )
    damage(target)
    with pytest.raises(BadAdapter, match="policy-000001 have changed since it was published"):
        verify(target, digest)
