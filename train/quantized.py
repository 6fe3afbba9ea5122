"""The base as it is trained: 4 bits or 16, on this process's device, with LoRA in float32.

On processors without instructions for bf16 all is computed in float32, here and in vLLM.

Each fix is for a fault that was measured on these versions: nf4 repacking on CPU, adapters forced
to bf16.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import bitsandbytes.nn.modules as bnb_modules
import datasets
import torch
from peft import LoraConfig, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import BitsAndBytesConfig

from store.rows import Invalid
from train.processor import multiplies_bf16
from train.run_folder import ADAPTER, ADAPTER_WEIGHTS, RunFolder

# On CPUs with AVX512-BF16 an evaluation repacks 4-bit weights and nothing unpacks them for
# training: gradients vanish silently. Packing gains nothing, so it is off before a model is loaded.
bnb_modules.has_avx512bf16 = lambda: False

datasets.disable_progress_bars()


def device() -> str:
    """Of this process; several processes on one machine take a GPU each.

    Raises Invalid when there is a CUDA build of torch and no GPU for it: a 7B model would else be
    trained on the CPU without a word.
    """
    if not torch.cuda.is_available():
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
        if torch.version.cuda and not hidden:
            raise Invalid(
                f"The installed torch is built for CUDA {torch.version.cuda} and finds no GPU. "
                'Update NVIDIA\'s driver, check train.device, or set it to "cpu".'
            )
        return "cpu"
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def computes_in() -> torch.dtype:
    """The type of the base; `train/policy/vllm.py` serves in the same."""
    fast = device() != "cpu" or multiplies_bf16() or under_fsdp()
    return torch.bfloat16 if fast else torch.float32


def under_fsdp() -> bool:
    """Each process holds a part of every weight. accelerate tells its processes so."""
    return os.environ.get("ACCELERATE_USE_FSDP") == "true"


def base_arguments(precision: str, dtype: torch.dtype | None = None) -> dict[str, Any]:
    """Keyword arguments of `from_pretrained`. `precision`: nf4, or anything else for bf16; `dtype`:
    otherwise that of `computes_in`."""
    dtype = dtype or computes_in()
    arguments: dict[str, Any] = {"dtype": dtype}
    if not under_fsdp():  # which places the parts itself
        arguments["device_map"] = {"": device()}
    if precision == "nf4":
        arguments["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            # FSDP divides weights of one type only, and the adapters are bf16 there.
            bnb_4bit_quant_storage=torch.bfloat16 if under_fsdp() else torch.uint8,
        )  # llm_int8_skip_modules stays unset: naming any module would quantise the reward head
    return arguments


def lora(rank: int, task: str) -> LoraConfig:
    head = ["score"] if task == "SEQ_CLS" else None
    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules="all-linear",
        task_type=task,
        modules_to_save=head,
    )


def keep_adapters_in_fp32(model: torch.nn.Module) -> None:
    """TRL casts QLoRA adapters to bf16, where small AdamW steps vanish.

    Costs about 0.4 GB for a 7B model at rank 16. FSDP allows no second type beside the base's.
    """
    if under_fsdp():
        return
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def load_weights(model: Any, adapter: Path, name: str = "default") -> None:
    """Copy the weights of a saved adapter into the adapter `name` of the model."""
    set_peft_model_state_dict(model, load_file(adapter / ADAPTER_WEIGHTS), adapter_name=name)


def save_weights(model: Any, folder: Path, state: dict[str, Any] | None = None) -> None:
    """Only what is served: no reference, optimiser state, pickles or generated README.

    `state`: all weights, of a model of which this process has a part. Raises FloatingPointError for
    weights that are not finite.
    """
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not bool(torch.isfinite(parameter).all()):
            raise FloatingPointError(f"{name} is not finite; lower the learning rate")
    model.save_pretrained(
        folder, safe_serialization=True, selected_adapters=["default"], state_dict=state
    )
    for file in folder.iterdir():
        if file.name not in ADAPTER:
            file.unlink()


def save_adapter(trainer: Any, run: RunFolder) -> None:
    """The trained adapter into the run folder, whole or not; the first process writes."""
    # All processes bring their parts together.
    state = trainer.accelerator.get_state_dict(trainer.model) if under_fsdp() else None
    if trainer.is_world_process_zero():
        save_weights(trainer.accelerator.unwrap_model(trainer.model), run.half_adapter, state)
        run.half_adapter.rename(run.adapter)
