"""Trains the starter policy from the text grammar: a tokenizer and a small Llama in one folder.

Everything is seeded and the number of steps is fixed. The loss covers the answers only.
"""

from __future__ import annotations

import math
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional
from tqdm import tqdm
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from train.processor import multiplies_bf16
from train.starter.cache import is_built
from train.starter.grammar import sample_dialogue

PAD, END, SYSTEM, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"
CONTEXT = 1024
IGNORED = -100  # label without a loss
TITLE = "Building the starter policy"

# Special tokens separate the turns, so the text of one turn is always tokenised by itself and the
# prompt is an exact prefix of prompt + answer.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ['system', 'user', 'assistant'] -%}"
    "{{- raise_exception('unknown role: ' + message['role']) -}}"
    "{%- endif -%}"
    "{{- '<|' + message['role'] + '|>' -}}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{- message['content'] + '<|end|>' -}}{%- endgeneration -%}"
    "{%- else -%}"
    "{{- message['content'] + '<|end|>' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a friendly and honest assistant.",
    "Answer in plain English.",
)


@dataclass(frozen=True)
class Recipe:
    seed: int = 7
    vocab: int = 2496  # every word of the grammar is one token
    corpus: int = 6000  # dialogues that the tokenizer learns from
    hidden: int = 256  # multiples of 64: the block size of nf4
    intermediate: int = 640
    layers: int = 4
    head_dim: int = 64
    steps: int = 1550
    batch: int = 8  # many small steps learn facts faster than few large ones
    pool: int = 16  # batches that are sorted by length together
    peak_lr: float = 2e-3
    warmup: float = 0.06  # share of the steps
    weight_decay: float = 0.01
    clip: float = 1.0
    system_share: float = 0.08
    second_turn_share: float = 0.12
    init: float = 0.05  # standard deviation; 0.02 learns more slowly at this width
    sharpen: float = 1.4  # factor on the logits: fewer broken sentences at temperature 1


RECIPE = Recipe()


def build(path: Path, recipe: Recipe = RECIPE) -> None:
    """Train the policy in a folder beside `path`, then rename it; a late one discards its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        torch.manual_seed(recipe.seed)
        tokenizer = train_tokenizer(recipe)
        model = train_model(recipe, tokenizer)
        save(model, tokenizer, workshop)
        workshop.chmod(0o755)  # mkdtemp makes it private
        put_in_place(workshop, path)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def put_in_place(workshop: Path, path: Path) -> None:
    """Rename atomically; a complete folder that is already there wins."""
    if path.exists() and not is_built(path):
        shutil.rmtree(path)  # somebody deleted files in it
    try:
        os.rename(workshop, path)
    except OSError:
        if not is_built(path):
            raise


def train_tokenizer(recipe: Recipe) -> PreTrainedTokenizerFast:
    """Byte-level BPE over the grammar; all 256 bytes are in it, so any text can be encoded."""
    rng = random.Random(recipe.seed)
    texts = [text for _ in range(recipe.corpus) for text in sample_dialogue(rng)]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = [
        AddedToken(token, special=True, normalized=False)
        for token in (PAD, END, SYSTEM, USER, ASSISTANT)
    ]
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=recipe.vocab,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens=[SYSTEM, USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama with random weights in the sizes of the recipe."""
    heads = recipe.hidden // recipe.head_dim
    config = LlamaConfig(
        vocab_size=recipe.vocab,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=recipe.head_dim,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=recipe.init,
        attention_bias=False,
        mlp_bias=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        # for sequences this short the backward pass of sdpa costs twice as much
        attn_implementation="eager",
    )
    return LlamaForCausalLM(config)


@dataclass(frozen=True)
class Example:
    """Token ids of one conversation and, per token, whether the model has to produce it."""

    ids: list[int]
    learn: list[bool]


class Writer:
    """Samples conversations from the grammar and turns them into token ids."""

    def __init__(self, recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> None:
        self.recipe = recipe
        self.rng = random.Random(recipe.seed + 1)
        self.encode = tokenizer.backend_tokenizer.encode
        self.end, self.system, self.user, self.assistant = tokenizer.convert_tokens_to_ids(
            [END, SYSTEM, USER, ASSISTANT]
        )

    def example(self) -> Example:
        """One conversation, now and then with a system message or a second turn."""
        ids: list[int] = []
        learn: list[bool] = []
        for role, text in self._turns():
            body = [*self.encode(text).ids, self.end]
            ids += [role, *body]
            learn += [False, *(role == self.assistant for _ in body)]
        return Example(ids, learn)

    def _turns(self) -> Iterator[tuple[int, str]]:
        if self.rng.random() < self.recipe.system_share:
            yield self.system, self.rng.choice(SYSTEM_PROMPTS)
        for _ in range(2 if self.rng.random() < self.recipe.second_turn_share else 1):
            question, answer = sample_dialogue(self.rng)
            yield self.user, question
            yield self.assistant, answer

    def batches(self) -> Iterator[list[Example]]:
        """Batches of similar length in mixed order: little is spent on padding."""
        size = self.recipe.batch
        while True:
            pool = sorted(
                (self.example() for _ in range(size * self.recipe.pool)), key=lambda e: len(e.ids)
            )
            starts = list(range(0, len(pool), size))
            self.rng.shuffle(starts)
            for start in starts:
                yield pool[start : start + size]


def answer_loss(model: LlamaForCausalLM, batch: list[Example], pad: int) -> torch.Tensor:
    """Mean cross-entropy of the answer tokens; logits are computed for those only."""
    width = round_up(max(len(example.ids) for example in batch), 16)
    ids = torch.tensor([example.ids + [pad] * (width + 1 - len(example.ids)) for example in batch])
    learn = torch.tensor(
        [example.learn + [False] * (width + 1 - len(example.learn)) for example in batch]
    )
    # Padding stands on the right, so the causal mask alone keeps it away from real tokens.
    states = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state.flatten(0, 1)
    places = learn[:, 1:].flatten().nonzero().flatten()
    wanted = ids[:, 1:].flatten()[places]
    spare = round_up(len(places), 64) - len(places)
    logits = model.lm_head(states[functional.pad(places, (0, spare))])
    return functional.cross_entropy(
        logits, functional.pad(wanted, (0, spare), value=IGNORED), ignore_index=IGNORED
    )


def round_up(number: int, step: int) -> int:
    """Few distinct shapes: oneDNN compiles and keeps a kernel for each."""
    return -(-number // step) * step


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then cosine to zero."""
    rise = recipe.warmup * recipe.steps
    if step < rise:
        return recipe.peak_lr * (step + 1) / rise
    return recipe.peak_lr * 0.5 * (1 + math.cos(math.pi * (step - rise) / (recipe.steps - rise)))


def train_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """AdamW on freshly sampled conversations for a fixed number of steps."""
    model = new_model(recipe, tokenizer).train()
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": recipe.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ],
        lr=recipe.peak_lr,
        betas=(0.9, 0.98),
        fused=True,
    )
    batches = Writer(recipe, tokenizer).batches()
    for step in progress(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        with torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bf16()):
            loss = answer_loss(model, next(batches), tokenizer.pad_token_id)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        model.model.norm.weight *= recipe.sharpen  # the last norm feeds only the logits
    return model.eval()


def progress(steps: int) -> Iterable[int]:
    """A bar on a terminal, a line every tenth elsewhere."""
    if sys.stderr.isatty():
        yield from tqdm(range(steps), desc=TITLE, unit="step")
        return
    for step in range(steps):
        if step * 10 % steps < 10:
            print(f"{TITLE}: {step * 100 // steps} %", file=sys.stderr, flush=True)
        yield step
    print(f"{TITLE}: 100 %", file=sys.stderr, flush=True)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """bfloat16 safetensors, tokenizer, chat template and sampling defaults."""
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=1.0,
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
