"""A site whose training room has something of everything: rows in the store and folders on disk, as
training scripts write them. The numbers are made up; no model is trained."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from store import policies, runs, snapshots, users
from store.database import Store
from store.importing import NewPreference, add_preferences
from store.rows import Completion
from tests.stored import add_pair, add_policy, show
from tests.stored import judge as judge_pair
from train.calibration import ScoredPick, report, sigmoid
from train.gate import GateConfig, judge
from train.interval import accuracy_of
from train.plan import plan
from train.planning import picks_of
from train.precision import Gap
from train.presets import preset
from train.rule_words import rule_of
from train.run_folder import RunFolder
from train.settings import Part

STEPS = 80
ANSWERS = {  # before training, half-way and at the end
    "How do bees find their way home?": (
        "Bees find the way home. The way home is the way that bees find, and they find it.",
        "Bees remember landmarks such as trees and hedges, and these lead them back home.",
        "They use **the sun as a compass**, remember hedges and trees, and smell the hive itself.",
    ),
    "Write a thank-you note to a neighbour.": (
        "Thank you. I am writing a note to say thank you for the note, neighbour. Thank you.",
        "Dear neighbour, thank you for your help with the garden. It was very kind of you.",
        "Dear Ann, thank you for watering the tomatoes. The first ripe ones are yours. Ben",
    ),
    "Why is the sky blue?": (
        "The sky is blue because it is the sky, and the sky is a blue thing above the ground.",
        "Sunlight is scattered by the air, and blue light is scattered more than red light is.",
        "Air scatters short waves more than long ones, so blue light comes from all directions.",
    ),
}
VERSIONS = {"torch": "2.13.0", "transformers": "5.19.0", "trl": "1.16.0", "peft": "0.21.0"}
LOG = "loading the base model\n{n} rows to train on, 16 held out\n"
Curve = Callable[[float], float]


def fill(store: Store) -> dict[str, str]:
    """Picks, a round, runs of every kind and in every state. Returns run ids by what they are."""
    add_policy(store)
    _add_picks(store)
    made = {"round": _round(store)}
    made["overfit"] = _run(store, "dpo", STEPS, OVERFIT, {"beta": 0.3, "epochs": 8}, grows=True)
    made["dpo"] = _run(store, "dpo", STEPS, HEALTHY, {"sft_weight": 0.4})
    made["sft"] = _run(store, "sft", STEPS, {"loss": lambda x: 1.1 + 0.9 * math.exp(-4 * x)}, {})
    made["failed"] = _run(store, "kto", 7, {"loss": lambda x: 0.5 + 2 * x}, {"learning_rate": 0.02})
    _end(store, made["failed"], "FAILED", "loss is not finite at step 7; lower the learning rate")
    for name, metrics in (("overfit", 0.598), ("dpo", 0.654), ("sft", None)):
        _done(store, made[name], metrics)
    made["running"] = _run(store, "dpo", 47, FALLING, {"learning_rate": 0.002, "loss": "ipo"})
    made["paused"] = runs.add(store, "kto", {"settings": {}}, None)
    runs.mark(store, made["paused"], "paused", reason="Paused on request.")
    made["queued"] = runs.add(store, "rm", {"settings": {}}, None)
    made["last"] = runs.add(store, "round", {"settings": {}}, None)
    return made


def folder_of(store: Store, run_id: str) -> RunFolder:
    return RunFolder(store.data_dir / "runs" / run_id)


# --- curves: from 0 at the start to 1 at the end of the run ---------------------------------------

HEALTHY: dict[str, Curve] = {
    "loss": lambda x: 0.3 + 0.42 * math.exp(-2.4 * x),
    "accuracy": lambda x: 0.5 + 0.3 * (1 - math.exp(-3 * x)),
    "margin": lambda x: 1.6 * (1 - math.exp(-2 * x)),
    "reward_chosen": lambda x: 0.9 * (1 - math.exp(-2 * x)),
    "reward_rejected": lambda x: -0.7 * (1 - math.exp(-2 * x)),
    "logps_chosen": lambda x: -58 + 6 * x,
    "eval_loss": lambda x: 0.42 + 0.3 * math.exp(-2.2 * x),
    "eval_accuracy": lambda x: 0.5 + 0.16 * (1 - math.exp(-3 * x)),
}
OVERFIT = HEALTHY | {
    "loss": lambda x: 0.06 + 0.64 * math.exp(-4.5 * x),
    "eval_loss": lambda x: 0.55 + 0.9 * (x - 0.35) ** 2,
    "margin": lambda x: 13 * x,
    "eval_accuracy": lambda x: 0.5 + 0.1 * (1 - math.exp(-6 * x)),
}
FALLING = HEALTHY | {"logps_chosen": lambda x: -58 - 26 * x, "reward_chosen": lambda x: -1.2 * x}
NOISE = {"loss": 0.03, "accuracy": 0.06, "margin": 0.1, "logps_chosen": 2.5, "reward_chosen": 0.06}


def _add_line(
    folder: RunFolder, step: int, curves: dict[str, Curve], chance: random.Random
) -> None:
    x = step / STEPS
    line: dict[str, Any] = {"step": step, "max_steps": STEPS, "seconds": 2.9 * step + 11}
    for key, curve in curves.items():
        if not key.startswith("eval_"):
            line[key] = curve(x) + chance.gauss(0, NOISE.get(key, 0))
    warm, late = min(1.0, 10 * x), 0.5 * (1 + math.cos(math.pi * x))
    line |= {"learning_rate": 1e-3 * warm * late, "grad_norm": 1.4 + abs(chance.gauss(0, 0.4))}
    line |= {
        "epoch": 3 * x,
        "tokens_per_second": 312 + chance.gauss(0, 9),
        "memory_mb": 1130 + step,
    }
    folder.add_progress(line)
    if step % 16 == 0:
        held_out = {key: curve(x) for key, curve in curves.items() if key.startswith("eval_")}
        folder.add_progress(
            {"step": step, "max_steps": STEPS, "seconds": 2.9 * step + 13} | held_out
        )


def _run(
    store: Store,
    part: Part,
    steps: int,
    curves: dict[str, Curve],
    asked: dict[str, Any],
    parent: str | None = None,
    grows: bool = False,  # the length of its answers
) -> str:
    """A run that has got as far as `steps`."""
    run_id = runs.add(store, part, {"settings": asked}, None, parent=parent)
    runs.mark(store, run_id, "running")
    folder = folder_of(store, run_id)
    folder.freeze(_config(store, run_id, part, asked))
    chance = random.Random(run_id)
    for step in range(1, steps + 1):
        _add_line(folder, step, curves, chance)
    for step in sorted({0, steps // 2, steps}):
        for prompt, texts in ANSWERS.items():
            text = texts[min(2, 3 * step // STEPS)] + (" And so on." * 4 if grows and step else "")
            asked_for = [{"role": "user", "content": prompt}]
            folder.add_sample({"step": step, "prompt": asked_for, "text": text})
    lines = [f"step {step}: {{'loss': round(0.7 - step / 200, 3)}}" for step in range(1, steps)]
    folder.log.write_text(LOG.format(n=171) + "\n".join(lines) + "\n", encoding="utf-8")
    return run_id


def _config(store: Store, run_id: str, part: Part, asked: dict[str, Any]) -> dict[str, Any]:
    train, held_out = (picks_of(rows) for rows in snapshots.preview(store, ("human", "import"), 0))
    settings = replace(preset(part, 2_000_000, 200), **asked)
    planned = plan(part, train, held_out, settings)
    set_by_hand = " ".join(f"--set {key}={value}" for key, value in asked.items())
    return {
        "run_id": run_id,
        "kind": part,
        "base_name": "starter",
        "quantization": "nf4",
        "precision": "nf4",
        "parent_policy": "policy-000000",
        "start_adapter": None,
        "seed": 0,
        "settings": asdict(settings),
        "rule": rule_of(part, settings),
        "plan": planned.as_dict(),
        "warnings": [asdict(one) for one in planned.warnings],
        "data": {"sha256": "5f" * 32, "rows_train": 171, "rows_eval": 16},
        "launcher": "local",
        "processes": 1,
        "threads": 1,
        "device": "cpu",
        "versions": VERSIONS,
        "command": f"prefloop train {part} {set_by_hand}".strip(),
    }


def _end(store: Store, run_id: str, how: Any, reason: str, **more: Any) -> None:
    folder_of(store, run_id).end(how, reason)
    runs.mark(store, run_id, how.lower(), reason=reason, **more)


def _done(store: Store, run_id: str, share: float | None, more: Any = None) -> None:
    metrics: dict[str, Any] = {
        "rows_train": 171,
        "rows_eval": 16,
        "rows_too_long": 2,
        "eval_loss": 0.56,
    }
    if share is not None:
        metrics |= accuracy_of(share, 16) | {"margin": 0.41, "precision_gap": GAP}
    _end(store, run_id, "DONE", "", metrics=metrics | (more or {}))


VERDICT = judge(
    accuracy=0.642,
    rows_eval=16,
    candidate=[Completion(said[-1], finish_reason="stop") for said in ANSWERS.values()],
    champion=[Completion(said[0], finish_reason="stop") for said in ANSWERS.values()],
    config=GateConfig(),
    picked=(9, 41),
)
GAP = Gap(mean=0.0062, max=0.31, tokens=1840, surprise=0.8, bound=0.02).as_dict()


def _round(store: Store) -> str:
    """A round that was promoted, with the metrics of its reward model."""
    run_id = runs.add(store, "round", {"settings": {}}, None)
    runs.mark(store, run_id, "running")
    rewards = {
        key: HEALTHY[key] for key in ("loss", "accuracy", "margin", "eval_loss", "eval_accuracy")
    }
    reward, policy = (
        _run(store, part, STEPS, curves, {}, run_id)
        for part, curves in (("rm", rewards), ("dpo", HEALTHY))
    )
    scored = reward_report(store)
    _done(store, reward, None, scored)
    _done(store, policy, 0.642)
    policy_id = add_policy(store, "policy-000001", promote=False)
    policies.decide(store, policy_id, "promote", VERDICT.reason)
    metrics = runs.get(store, policy).metrics
    runs.mark(
        store,
        run_id,
        "done",
        reason=VERDICT.reason,
        policy_id=policy_id,
        verdict="promoted",
        metrics=metrics | {"reward_model": scored, "gate": VERDICT.as_dict()},
    )
    return run_id


def reward_report(store: Store) -> dict[str, Any]:
    """Of a reward model that is too sure of itself, with its calibration by pool, annotator and
    strength."""
    people = [users.named(store, name).user_id for name in ("annotator", "researcher")]
    rng, scored = random.Random(5), []
    for number in range(78):
        difference = rng.gauss(0.0, 2.0)
        picked = 1 if rng.random() < sigmoid(difference / 1.6) else -1
        scored.append(
            ScoredPick(
                (picked * difference,),
                (round(20 * rng.gauss(picked * difference / 4, 1.0)),),
                pool="Code" if number % 5 == 0 else "Everything",
                annotator=people[number % 8 > 4],
                strength=number % 3 + 1,
                prompt_id=f"prompt-{number}",
            )
        )
    return report(scored)


def _add_picks(store: Store) -> None:
    rows = [
        NewPreference([{"role": "user", "content": f"Item {n}?"}], f"Good {n}.", f"Bad {n}.")
        for n in range(180)
    ]
    add_preferences(store, rows)
    annotator = users.named(store, "annotator")
    for number in range(12):
        add_pair(store, f"Question {number}?", f"Yes {number}.", f"No {number}, not at all.")
        pair_id = show(store, annotator)
        assert pair_id is not None
        verdict = ("left", "tie", "right")[number % 3]
        more = {"edited_text": f"Yes, {number}."} if number % 6 == 0 else {}
        judge_pair(store, annotator, pair_id, verdict, **more)  # type: ignore[arg-type]
