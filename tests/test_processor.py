"""Arithmetic that the processor has instructions for."""

from __future__ import annotations

from pathlib import Path

import pytest

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


def test_a_base_computes_in_what_is_fast_here() -> None:
    import torch

    from train.quantized import base_arguments

    fast = torch.cuda.is_available() or multiplies_bf16()
    wanted = torch.bfloat16 if fast else torch.float32
    assert base_arguments("nf4")["dtype"] == base_arguments("bf16")["dtype"] == wanted
    assert base_arguments("nf4")["quantization_config"].bnb_4bit_compute_dtype == wanted
