"""What this machine's processor is good at. Standard library only: the app asks too."""

from __future__ import annotations

from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# x86-64 with AVX-512 or AMX, and 64-bit Arm. Elsewhere bf16 is emulated: training in it takes ten
# times as long as in float32 on AVX2 (benchmarks/cpu_arithmetic.py).
BF16 = {"avx512_bf16", "amx_bf16", "bf16"}


@cache
def multiplies_bf16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether there are instructions for it; False where the system does not tell."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = (line.partition(":")[2] for line in text.splitlines() if line.startswith(_LABELS))
    return not BF16.isdisjoint(next(flags, "").split())


_LABELS = ("flags", "Features")  # x86-64 and Arm
