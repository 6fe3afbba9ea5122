"""Arithmetic that the processor has instructions for."""

from __future__ import annotations

from pathlib import Path

import pytest

from train.base_model import BaseModel
from train.policy.vllm import PolicyConfig, vllm_command
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


def test_what_is_trained_here_is_served_in_the_same(tmp_path: Path) -> None:
    from train.quantized import base_arguments

    command, _ = vllm_command(
        PolicyConfig(), BaseModel("starter", tmp_path, 1), tmp_path / "socket"
    )
    served = f"torch.{command[command.index('--dtype') + 1]}"
    nf4, sixteen_bits = base_arguments("nf4"), base_arguments("bf16")
    assert str(nf4["dtype"]) == str(sixteen_bits["dtype"]) == served
    assert str(nf4["quantization_config"].bnb_4bit_compute_dtype) == served
