"""The settings of each kind of run: typed, with unit, range and one sentence of help. No torch.

The form of the training room, `prefloop train KIND --list-settings` and the checks all read these.
Defaults here suit a 7B model; `train/presets.py` fits them to the size of the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, TypeVar, get_args

from store.rows import Invalid

Part = Literal["sft", "rm", "dpo", "kto"]
Group = Literal["learning", "loss", "picks", "size", "control", "sight"]
GROUPS: tuple[Group, ...] = get_args(Group)


def _setting(
    default: Any,
    group: Group,
    help: str,  # noqa: A002 - the field's word for it
    *,
    unit: str = "",
    choices: tuple[str, ...] = (),
    least: float = 0.0,
    most: float = math.inf,
) -> Any:
    about = {
        "group": group,
        "help": help,
        "unit": unit,
        "choices": choices,
        "least": least,
        "most": most,
    }
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class CommonSettings:
    """What every kind of run has."""

    gone: ClassVar[frozenset[str]] = frozenset()  # names that runs of older versions still have

    learning_rate: float = _setting(
        2e-5, "learning", "Size of a step at its highest point.", least=1e-9, most=1
    )
    epochs: int = _setting(
        1, "learning", "Passes over the picks.", unit="passes", least=1, most=1000
    )
    schedule: str = _setting(
        "cosine",
        "learning",
        "How the learning rate falls after the warm-up.",
        choices=("cosine", "linear", "constant_with_warmup"),
    )
    warmup: float = _setting(
        0.1,
        "learning",
        "Share of all steps in which the learning rate rises.",
        unit="share",
        most=1,
    )
    max_grad_norm: float = _setting(
        1.0, "learning", "Longer gradients are cut to this length. 0 cuts none.", unit="norm"
    )
    weight_decay: float = _setting(0.0, "learning", "Pull of the adapter's weights towards zero.")
    seed: int = _setting(
        0, "control", "Order of the rows, and where the adapter starts.", most=2**32 - 1
    )
    batch: int = _setting(2, "size", "Rows on the device at once.", unit="rows", least=1)
    accumulate: int = _setting(8, "size", "Batches in one step.", unit="batches", least=1)
    rank: int = _setting(16, "size", "Rank of the LoRA matrices.", least=1)
    max_length: int = _setting(
        1024,
        "size",
        "Prompt and answer together. Longer rows are left out and counted.",
        unit="tokens",
        least=1,
    )
    gradient_checkpointing: bool = _setting(
        True, "size", "Saves memory and costs about a quarter more time."
    )
    precision: str = _setting(
        "served",
        "size",
        "Precision of the base while it trains: as vLLM serves it, 4 bits, or 16 bits.",
        choices=("served", "nf4", "bf16"),
    )
    evaluations: int = _setting(
        4, "control", "How often the held-out loss is measured on the way.", unit="times", most=1000
    )
    patience: int = _setting(
        0,
        "control",
        "Stop after this many measurements without a better held-out loss, and keep the best "
        "adapter. 0 never stops early.",
        unit="measurements",
        most=1000,
    )
    checkpoints: int = _setting(
        4,
        "control",
        "How often a state to resume from is kept on the way.",
        unit="times",
        most=1000,
    )
    report_to: str = _setting(
        "trackio",
        "sight",
        "Trackers, by TRL's names and separated by commas: trackio (local, no account), wandb, "
        "tensorboard, mlflow, or none.",
    )

    @property
    def goes_on(self) -> bool:
        """From the champion's adapter."""
        return getattr(self, "start", "base") == "champion"


@dataclass(frozen=True)
class PolicySettings(CommonSettings):
    """What every kind of run has whose model writes answers."""

    samples: int = _setting(
        3, "sight", "Held-out prompts that the model answers on the way.", unit="prompts", most=16
    )


STRENGTHS = (
    "A pick's strength (slightly, clearly, much) as a soft label (70, 90, 95 %), as a weight (0.5, "
    "1, 1.5), or not at all. Without a strength a pick counts as clearly."
)
EDITS = "An edited answer beats the answer that it corrects."
RANKED = "Of four ranked answers: all five comparisons, or only the best against the worst."
TURNS = "Of a conversation: the picks of all turns, or only of the last one."


BATCHING = "Rows of similar length together, which saves padding and time, or in random order."
LARGEST = 2**32 - 1  # that libraries take, of settings without a bound of their own
LONGEST_SHOWN = 40  # characters of a wrong value
BY_TOKEN = ("ipo", "sigmoid_norm")  # these losses compare means for each token, not sums
BATCHINGS = ("random", "similar_length")


@dataclass(frozen=True)
class RewardSettings(CommonSettings):
    """Reward model: learns to score answers as people pick them."""

    gone = frozenset({"samples"})

    learning_rate: float = _setting(
        1e-4, "learning", "Size of a step at its highest point.", least=1e-9, most=1
    )
    batching: str = _setting("random", "size", BATCHING, choices=BATCHINGS)
    center: float = _setting(
        0.01, "loss", "Pull of the rewards towards zero (arXiv 2312.09244).", most=10
    )
    strength: str = _setting(
        "soft",
        "picks",
        "A pick's strength (slightly, clearly, much) as a soft label (70, 90, 95 %), as a margin "
        "(1/3, 2/3, 1), as a weight (0.5, 1, 1.5), or not at all. Without a strength a pick counts "
        "as clearly.",
        choices=("soft", "margin", "weight", "ignore"),
    )
    ties: str = _setting(
        "soft", "picks", "Ties as a label of 50 %, or left out.", choices=("soft", "drop")
    )
    edits: str = _setting("use", "picks", EDITS, choices=("use", "drop"))
    ranked: str = _setting("all", "picks", RANKED, choices=("all", "best_worst"))
    turns: str = _setting("all", "picks", TURNS, choices=("all", "last"))


@dataclass(frozen=True)
class DpoSettings(PolicySettings):
    """DPO: raises the odds of picked answers against those of rejected ones."""

    batching: str = _setting("random", "size", BATCHING, choices=BATCHINGS)
    loss: str = _setting(
        "sigmoid",
        "loss",
        "sigmoid is DPO; ipo and robust bear noisy picks; hinge stops at a margin; apo_zero also "
        "raises the picked answer itself; sigmoid_norm divides by the length.",
        choices=("sigmoid", "ipo", "robust", "hinge", "apo_zero", "sigmoid_norm"),
    )
    beta: float = _setting(0.1, "loss", "Strength of the pull towards the reference.", least=1e-6)
    sft_weight: float = _setting(
        0.2, "loss", "Share of likelihood on the picked answer; keeps it from falling.", most=10
    )
    label_smoothing: float = _setting(
        0.1, "loss", "Share of picks that robust takes for flipped.", unit="share", most=0.49
    )
    length_alpha: float = _setting(
        1.0,
        "loss",
        "Weight of the tokens by which one answer is longer than the other (LD-DPO): 1 is plain "
        "DPO. With less, length counts less, but so does where the longer answer ends.",
        unit="share",
        most=1,
    )
    start: str = _setting(
        "base",
        "control",
        "A fresh adapter on the base, which is the reference too; or go on from the champion, which"
        " is then the reference.",
        choices=("base", "champion"),
    )
    strength: str = _setting("weight", "picks", STRENGTHS, choices=("weight", "soft", "ignore"))
    ties: str = _setting(
        "drop", "picks", "Ties left out, or as a label of 50 %.", choices=("drop", "soft")
    )
    edits: str = _setting("use", "picks", EDITS, choices=("use", "drop"))
    ranked: str = _setting("all", "picks", RANKED, choices=("all", "best_worst"))
    turns: str = _setting("all", "picks", TURNS, choices=("all", "last"))


@dataclass(frozen=True)
class KtoSettings(PolicySettings):
    """KTO: learns from single answers that were good or bad; uses "both bad" too."""

    gone = frozenset({"ranked"})  # the best is good and the worst is bad

    # The KL is estimated from the rows at once, of which TRL advises at least 4. A row is one
    # answer here and two in DPO, so these need no more memory, and a step has as many.
    batch: int = _setting(4, "size", "Rows on the device at once.", unit="rows", least=2)
    accumulate: int = _setting(4, "size", "Batches in one step.", unit="batches", least=1)
    beta: float = _setting(0.1, "loss", "Strength of the pull towards the reference.", least=1e-6)
    balance: bool = _setting(
        True, "loss", "Weigh good and bad answers so that both sides count the same in sum."
    )
    start: str = _setting(
        "base",
        "control",
        "A fresh adapter on the base, which is the reference too; or go on from the champion, which"
        " is then the reference.",
        choices=("base", "champion"),
    )
    both_bad: str = _setting(
        "negatives",
        "picks",
        "Both answers as bad ones, or left out.",
        choices=("negatives", "drop"),
    )
    edits: str = _setting(
        "use", "picks", "An edited answer is a good one.", choices=("use", "drop")
    )
    turns: str = _setting("all", "picks", TURNS, choices=("all", "last"))


@dataclass(frozen=True)
class SftSettings(PolicySettings):
    """Supervised: imitates the picked answers and the edits."""

    learning_rate: float = _setting(
        2e-4, "learning", "Size of a step at its highest point.", least=1e-9, most=1
    )

    neftune: float = _setting(
        0.0, "loss", "Noise on the embeddings (NEFTune, arXiv 2310.05914); 5 is usual, 0 is none."
    )
    answers: str = _setting(
        "picked",
        "picks",
        "Every picked answer, in its edited form where there is one; or the edited ones only.",
        choices=("picked", "edited"),
    )
    turns: str = _setting("all", "picks", TURNS, choices=("all", "last"))


AnySettings = RewardSettings | DpoSettings | KtoSettings | SftSettings
KINDS: dict[Part, type[AnySettings]] = {
    "sft": SftSettings,
    "rm": RewardSettings,
    "dpo": DpoSettings,
    "kto": KtoSettings,
}
Settings = TypeVar("Settings", bound=CommonSettings)
Value = str | int | float | bool


@dataclass(frozen=True)
class Field:
    """One setting as a form shows it."""

    name: str
    type: str  # int, float, bool or str
    group: Group
    default: Value
    help: str
    unit: str
    choices: tuple[str, ...]
    least: float
    most: float  # may be inf


def form(settings: CommonSettings) -> list[Field]:
    """The fields of these settings in the order of their groups; defaults are their values."""
    listed = [
        Field(name=f.name, type=str(f.type), default=getattr(settings, f.name), **f.metadata)
        for f in fields(settings)
    ]
    return sorted(listed, key=lambda one: GROUPS.index(one.group))


def stored(kind: type[Settings], values: dict[str, Any]) -> Settings:
    """Settings as they were frozen with a run, perhaps by an older version."""
    return kind(**{key: value for key, value in values.items() if key not in kind.gone})


def override(settings: Settings, changes: dict[str, Value]) -> Settings:
    """Settings with `changes` applied, texts converted by the field's type. Raises Invalid."""
    known = {one.name: one for one in form(settings)}
    converted: dict[str, Any] = {}
    for key, value in changes.items():
        if key in settings.gone:
            continue
        if key not in known:
            raise Invalid(f"Unknown setting {key!r}: choose {', '.join(known)}.")
        converted[key] = convert(known[key], value)
    return replace(settings, **converted)


def convert(about: Field, value: Value) -> Value:
    """`value` as the field's type, within its range or choices. Raises Invalid."""
    text = str(value).strip()
    if about.type == "str":
        return _chosen(about, text)
    try:
        if about.type == "bool":
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        number = int(text) if about.type == "int" else float(text)
    except (KeyError, ValueError):
        raise Invalid(
            f"{about.name} must be a value of type {about.type}, not {shorter(text)!r}."
        ) from None
    highest = min(about.most, LARGEST)
    if not about.least <= number <= highest:  # which NaN is neither
        most = f" and at most {highest:g}" if math.isfinite(about.most) or number > highest else ""
        raise Invalid(
            f"{about.name} must be a finite number and at least {about.least:g}{most}, "
            f"not {shorter(text)!r}."
        )
    return number


def shorter(text: str) -> str:
    """For a sentence about it."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _chosen(about: Field, text: str) -> str:
    if about.choices and text not in about.choices:
        raise Invalid(f"{about.name} must be one of {', '.join(about.choices)}, not {text!r}.")
    return text
