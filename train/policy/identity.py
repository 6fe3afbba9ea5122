"""Write policy version 0: an all-zero adapter, so that the base is requested like any other policy.

    python -m train.policy.identity BASE_MODEL OUT_FOLDER RANK

Also writes the shapes of the base's linear layers, against which the app checks each later adapter
without torch. Nothing is loaded: the model is built on the meta device from its configuration.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from train.policy.adapters import SHAPES
from train.run_folder import ADAPTER_WEIGHTS


def main(base: Path, out: Path, rank: int) -> None:
    with torch.device("meta"):
        bare = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base))
    shapes = {
        name: list(module.weight.shape)
        for name, module in bare.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = get_peft_model(bare, config)
    zeros = {name: torch.zeros(t.shape) for name, t in get_peft_model_state_dict(model).items()}
    out.mkdir(parents=True, exist_ok=True)
    config.inference_mode = True
    config.base_model_name_or_path = str(base)
    config.target_modules = sorted(model.peft_config["default"].target_modules)
    config.save_pretrained(out)
    save_file(zeros, out / ADAPTER_WEIGHTS)
    (out / SHAPES).write_text(json.dumps(shapes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
