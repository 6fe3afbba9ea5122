"""What the lines of a run say: how long it still takes, and what a researcher should look at.

Pure; no torch. A rule compares means over many steps, and what it finds must be larger than the
noise between batches: a warning that comes and goes teaches people to ignore all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean, median, stdev
from typing import Any

from train.words import words

Line = Mapping[str, Any]
Point = tuple[int, float]  # step, value
Rule = Callable[[Sequence[Mapping[str, Any]]], Iterator["RunWarning"]]

RECENT = 20  # lines whose pace is taken for the rest; evaluations make single lines uneven
LEAST_POINTS = 8  # of a curve, before anything is said about its course
SURE = 2.0  # standard errors
LEAST_FALL = 0.03  # share of the log-probability at the start
LEAST_BELOW = 0.1  # reward of picked answers under the reference: beta times nats
MOST_SUNK = 0.5  # of the margin: good runs, too, lower both sides, the rejected one much further
SATURATED = 10.0  # margin at which the loss has no slope left: sigmoid(-10) is 5e-5
LONGER = 1.25  # words of sampled answers, against those at the start
LEAST_WORDS = 8  # by which they are longer at least
RISE = 1.05  # held-out loss, against its own best
LEAST_GAP = 0.1  # of the held-out loss above that on the rows that are trained on
LEAST_GAINED = 0.25  # on held-out picks, of what was gained on those trained on
CHANCE = 0.55  # accuracy; one half is what a coin gives
LEAST_OTHER = 0.1  # of the rows with another prompt than the served one
SPIKE = 10.0  # times the usual gradient norm

SENTENCES = {
    "loss_not_finite": "The loss is not a number at step {step}. Lower the learning rate; start "
    "again from the last good checkpoint.",
    "grad_not_finite": "The gradient is not finite at step {step}. Lower the learning rate.",
    "answers_empty": "{empty} of {answers} sampled answers are empty. Lower the learning rate.",
    "precision_gap": "The policy that is served differs from the one that was trained by {mean} "
    "per token, and at most {bound} is expected. Train and serve the base in one precision: "
    "precision=served in the run's settings (docs/precision.md).",
    "other_prompt": "In {rows} of {all} rows the chat template leaves out the end of the prompt "
    "that vLLM asks, so the policy learns to answer another one. Choose a template that writes the "
    "same for a prompt and for a whole conversation.",
    "grad_spike": "The gradient norm jumped to {norm} at step {step}; {usual} is usual in this "
    "run. Lower the learning rate, or look for odd rows.",
    "chosen_falling": "Picked answers became less likely: their log-probability fell from {first} "
    "to {last}. Raise beta (in DPO also sft_weight), or lower the learning rate.",
    "chosen_below": "Picked answers are less likely than under the reference (reward {reward}). "
    "Raise beta (in DPO also sft_weight), or lower the learning rate.",
    "length_growing": "Sampled answers grow longer: {last} words instead of {first}. If "
    "people do not pick them for that, lower epochs or raise beta.",
    "margin_exploding": "The margin has reached {margin}: picks are learned by heart. Stop "
    "earlier, raise beta, or in DPO choose ipo.",
    "held_out_rising": "The held-out loss was best at step {best_step} ({best}) and is {last} "
    "now. Fewer epochs or patience would keep the better adapter.",
    "held_out_worse": "The loss is {held_out} on held-out picks and {train} on those trained on: "
    "it learns single picks by heart. Lower epochs, or collect more picks.",
    "accuracy_chance": "After {step} of {steps} steps it orders {share}% of the picks as people "
    "did, and a coin orders 50%. Raise the learning rate, or look at the agreement of annotators.",
}


@dataclass(frozen=True)
class RunWarning:
    """`key` is one of SENTENCES and `train.warning.` and it of the catalogues."""

    key: str
    step: int  # at which it was seen
    values: dict[str, int | float]
    message: str
    part: str = ""  # of a round, whose steps these are


def time_left_s(lines: Sequence[Line]) -> float | None:
    """Seconds until the last step at the pace of late, None while that cannot be said.

    Of a round: until the end of the part at work. A resumed run starts its clock anew.
    """
    parts = by_part(lines)
    stretch = _since_last_start(next(reversed(parts.values()), []))
    if not stretch:
        return None
    last, earlier = stretch[-1], stretch[-RECENT:][0]
    steps, seconds = last["step"] - earlier["step"], last["seconds"] - earlier["seconds"]
    if steps <= 0 or seconds <= 0:  # its clock began with the process, which loaded a model first
        return None
    return round(max(0.0, (last["max_steps"] - last["step"]) * seconds / steps), 1)


def run_warnings(
    lines: Sequence[Line],
    samples: Sequence[Line] = (),
    metrics: Mapping[str, Any] | None = None,
    by_token: bool = False,
) -> list[RunWarning]:
    """What to look at, worst first. `samples`: lines {step, text} of samples.jsonl; `metrics`: of
    the run once it is done; `by_token`: rewards are means for each token, so a sum of nats is no
    bound for them."""
    falling = partial(_chosen_falling, least_below=0.0 if by_token else LEAST_BELOW)
    rules: tuple[Rule, ...] = (*RULES, falling)
    found = [
        replace(one, part=part)
        for part, own in by_part(lines).items()
        for rule in rules
        for one in rule(own)
    ]
    found += [*_answers_empty(samples), *_length_growing(samples)]
    found += [*_precision_gap(lines, metrics or {}), *_other_prompt(lines, metrics or {})]
    return sorted(found, key=lambda one: list(SENTENCES).index(one.key))


def by_part(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """The lines of each part of a round, in order; of any other run all under ""."""
    parts: dict[str, list[Line]] = {}
    for line in lines:
        parts.setdefault(str(line.get("part") or ""), []).append(line)
    return parts


def _since_last_start(lines: Sequence[Line]) -> list[Line]:
    """Lines with a clock since it last went back to zero, which a resume makes it do."""
    stretch: list[Line] = []
    for line in lines:
        if not all(_is_number(line.get(key)) for key in ("step", "max_steps", "seconds")):
            continue
        if line["step"] <= 0:
            continue
        if stretch and line["seconds"] < stretch[-1]["seconds"]:
            stretch = []
        stretch.append(line)
    return stretch


# --- the rules: each looks at the lines of one part -----------------------------------------------


def _warn(key: str, at: int, /, **values: int | float) -> Iterator[RunWarning]:
    shown = {
        name: value if isinstance(value, int) else _round(value) for name, value in values.items()
    }
    yield RunWarning(key, at, shown, SENTENCES[key].format(**shown))


def _not_finite(lines: Sequence[Line]) -> Iterator[RunWarning]:
    """progress.jsonl leaves out what is not finite: a training line, which has a learning rate,
    then lacks what its neighbours have."""
    trained = [line for line in lines if "learning_rate" in line]
    for key, name in (("loss", "loss_not_finite"), ("grad_norm", "grad_not_finite")):
        if key != "loss" and not any(_is_number(line.get(key)) for line in trained):
            continue
        bad = next((line for line in trained if not _is_number(line.get(key))), None)
        if bad is not None:
            yield from _warn(name, int(bad.get("step", 0)), step=int(bad.get("step", 0)))
            return


def _grad_spike(lines: Sequence[Line]) -> Iterator[RunWarning]:
    """The highest jump above all that came before it; the first steps are rough in every run."""
    norms = curve(lines, "grad_norm")
    jumps = [
        (norm / usual, step, norm, usual)
        for n, (step, norm) in enumerate(norms)
        if n >= LEAST_POINTS and (usual := median(value for _, value in norms[:n])) > 0
    ]
    ratio, step, norm, usual = max(jumps, default=(0.0, 0, 0.0, 0.0))
    if ratio >= SPIKE and norm > 1:
        yield from _warn("grad_spike", step, step=step, norm=norm, usual=usual)


def _chosen_falling(lines: Sequence[Line], least_below: float) -> Iterator[RunWarning]:
    """Batches differ in length, so a fall must stand out of their noise. The reward of picked
    answers is free of that noise: it is measured against the reference, row by row."""
    logps, rewards = curve(lines, "logps_chosen"), curve(lines, "reward_chosen")
    if len(logps) < LEAST_POINTS:  # reward models have none
        return
    _, late = _ends(rewards) if len(rewards) >= LEAST_POINTS else ([], [])
    if late:
        _, margins = _ends(curve(lines, "margin"))
        gained = MOST_SUNK * fmean(margins) if margins else 0.0
        if -fmean(late) <= max(SURE * _error(late), least_below, gained):
            return
    first, last = _ends(logps)
    fall = fmean(first) - fmean(last)
    noise = math.sqrt(_error(first) ** 2 + _error(last) ** 2)
    if fall > max(SURE * noise, LEAST_FALL * abs(fmean(first))):
        yield from _warn("chosen_falling", logps[-1][0], first=fmean(first), last=fmean(last))
    elif late:
        yield from _warn("chosen_below", rewards[-1][0], reward=fmean(late))


def _margin_exploding(lines: Sequence[Line]) -> Iterator[RunWarning]:
    margins = curve(lines, "margin")
    if len(margins) >= LEAST_POINTS and (last := fmean(_ends(margins)[1])) > SATURATED:
        yield from _warn("margin_exploding", margins[-1][0], margin=last)


def _held_out(lines: Sequence[Line]) -> Iterator[RunWarning]:
    held_out, losses = curve(lines, "eval_loss"), curve(lines, "loss")
    if len(held_out) < 2:
        return
    (step, last), (best_step, best) = held_out[-1], min(held_out, key=lambda point: point[1])
    if last > RISE * best and last - best > 0.01:
        yield from _warn("held_out_rising", step, best_step=best_step, best=best, last=last)
        return  # the loss on trained rows lies further below, which is the same news
    if len(losses) < LEAST_POINTS:
        return
    # Medians: the last batch of each pass is small, and its loss far off.
    start, train = median(value for _, value in losses[:3]), median(_ends(losses)[1])
    gained = max(start, held_out[0][1]) - last
    if last - train > LEAST_GAP and gained < LEAST_GAINED * (start - train):
        yield from _warn("held_out_worse", step, held_out=last, train=train)


def _accuracy_chance(lines: Sequence[Line]) -> Iterator[RunWarning]:
    """Of the picks that it trains on; only once half of the run is over, since everything starts at
    chance."""
    known, steps = curve(lines, "accuracy"), int(max_steps(lines))
    if len(known) < LEAST_POINTS or not steps or 2 * known[-1][0] < steps:
        return
    share = fmean(value for _, value in known[len(known) // 2 :])
    if share < CHANCE:
        step = known[-1][0]
        yield from _warn("accuracy_chance", step, step=step, steps=steps, share=round(100 * share))


# And _chosen_falling, which wants to know what a reward is.
RULES: tuple[Rule, ...] = (
    _not_finite,
    _grad_spike,
    _margin_exploding,
    _held_out,
    _accuracy_chance,
)


def _answers_empty(samples: Sequence[Line]) -> Iterator[RunWarning]:
    """More than before training: accuracy and margin may look fine while a policy says nothing."""
    empty: dict[int, list[bool]] = {}
    for line in samples:
        empty.setdefault(int(line["step"]), []).append(not str(line["text"]).strip())
    if len(empty) < 2:
        return
    last = max(empty)
    if sum(empty[last]) > sum(empty[min(empty)]):
        answers = len(empty[last])
        yield from _warn("answers_empty", last, empty=sum(empty[last]), answers=answers)


def _length_growing(samples: Sequence[Line]) -> Iterator[RunWarning]:
    """Greedy answers to the same prompts, at the first and at the last step that has any."""
    lengths: dict[int, list[int]] = {}
    for line in samples:
        lengths.setdefault(int(line["step"]), []).append(len(words(str(line["text"]))))
    if len(lengths) < 2:
        return
    first, last = fmean(lengths[min(lengths)]), fmean(lengths[max(lengths)])
    if last > LONGER * first and last - first > LEAST_WORDS:
        yield from _warn("length_growing", max(lengths), first=round(first), last=round(last))


def _precision_gap(lines: Sequence[Line], metrics: Mapping[str, Any]) -> Iterator[RunWarning]:
    """Measured at the end, as train/precision.py has it; it may be missing."""
    gap = metrics.get("precision_gap") or {}
    if gap.get("warning"):
        yield from _warn("precision_gap", _last(lines), mean=gap["mean"], bound=gap["bound"])


def _other_prompt(lines: Sequence[Line], metrics: Mapping[str, Any]) -> Iterator[RunWarning]:
    """Of few rows it is only where a tokenizer joins the prompt's last letter to the answer."""
    rows = metrics.get("rows_train", 0) + metrics.get("rows_eval", 0)
    differ = metrics.get("rows_other_prompt", 0)
    if differ > LEAST_OTHER * rows:
        yield from _warn("other_prompt", _last(lines), rows=differ, all=rows)


def _last(lines: Sequence[Line]) -> int:
    return max((int(line["step"]) for line in lines), default=0)


# --- curves ---------------------------------------------------------------------------------------


def curve(lines: Sequence[Line], key: str) -> list[Point]:
    return [
        (int(line["step"]), float(line[key]))
        for line in lines
        if _is_number(line.get(key)) and _is_number(line.get("step"))
    ]


def max_steps(lines: Sequence[Line]) -> float:
    return next((line["max_steps"] for line in reversed(lines) if line.get("max_steps")), 0)


def _ends(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    """Values of the first and of the last quarter."""
    quarter = max(2, len(points) // 4)
    values = [value for _, value in points]
    return values[:quarter], values[-quarter:]


def _error(values: Sequence[float]) -> float:
    """Standard error of the mean."""
    return stdev(values) / math.sqrt(len(values))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _round(value: float) -> float:
    """Three digits are enough for a sentence; whole numbers above that."""
    if value == 0 or not math.isfinite(value):
        return value
    return round(value, max(0, 2 - math.floor(math.log10(abs(value)))))
