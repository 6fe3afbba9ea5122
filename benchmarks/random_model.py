"""A model of a given shape with random weights, and the starter's tokenizer: nothing is fetched.

    python -m benchmarks.random_model FOLDER SHAPE

Speed and memory of training depend on the shape alone. A process of its own, so that the GPU is
free again when it has ended.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

from train.base_model import STARTER, resolve

# Of Qwen2.5-7B-Instruct's config.json, and of something that a CPU trains in a moment.
SHAPES = {
    "7b": {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064,
    },
    "tiny": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 2560,
    },
}  # fmt: skip

SPARE = 1.15  # times the weights: the allocator rounds up, and saving copies single matrices


def main(folder: Path, shape: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(resolve(STARTER).path)
    config = Qwen2Config(
        **SHAPES[shape],
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    with torch.device(where(config)):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="4GB")
    tokenizer.save_pretrained(folder)


def where(config: Qwen2Config) -> str:
    """The GPU is faster, but a card on which only four bits fit has no room for the 16."""
    if not torch.cuda.is_available():
        return "cpu"
    with torch.device("meta"):
        weights = AutoModelForCausalLM.from_config(config).num_parameters()
    free, _ = torch.cuda.mem_get_info()
    return "cuda" if free > SPARE * 2 * weights else "cpu"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
