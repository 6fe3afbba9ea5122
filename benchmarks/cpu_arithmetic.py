"""A training step of the starter in nf4 on this processor, computed in bf16 and in float32.

    python -m benchmarks.cpu_arithmetic [--steps 3]

Forward and backward of 16 answers of 80 tokens, LoRA rank 16, one thread. What train/processor.py
chooses must not be the slower one.
"""

from __future__ import annotations

import argparse
import time

import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM

from benchmarks.report import hold, write
from train.base_model import STARTER, resolve
from train.quantized import base_arguments, computes_in, keep_adapters_in_fp32, lora

ROWS, TOKENS, RANK = 16, 80, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = computes_in()
    seconds = {dtype: step_s(dtype, options.steps) for dtype in (torch.bfloat16, torch.float32)}
    for dtype, took in seconds.items():
        print(f"{dtype!s:<16}{took:8.2f} s{'   <- chosen here' if dtype == chosen else ''}")
    other = next(dtype for dtype in seconds if dtype != chosen)
    ratio = seconds[other] / seconds[chosen]
    print(f"the other one takes {ratio:.1f} times as long")
    write("cpu_arithmetic", {str(dtype): took for dtype, took in seconds.items()})
    hold({"the chosen arithmetic is the faster one": ratio >= 1})


def step_s(dtype: torch.dtype, steps: int) -> float:
    """The fastest of some steps, the first of which only warms up."""
    base = AutoModelForCausalLM.from_pretrained(
        resolve(STARTER).path, **base_arguments("nf4", dtype)
    )
    model = get_peft_model(base, lora(RANK, "CAUSAL_LM"))
    keep_adapters_in_fp32(model)
    ids = torch.randint(10, 2000, (ROWS, TOKENS), generator=torch.Generator().manual_seed(0))
    took = []
    for _ in range(1 + steps):
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        took.append(time.perf_counter() - begin)
    return min(took[1:])


if __name__ == "__main__":
    main()
