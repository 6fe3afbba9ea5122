"""Our DPO trainer against TRL's own numbers, row for row and loss for loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from tests.tiny_runs import make_base, make_run, pick
from train.dpo_trainer import SHOWN, WeightedCollator, WeightedDPOTrainer, encode_pair
from train.fitting import Job, arguments, open_job, read_rows, start
from train.losses import LOSSES, PairLoss
from train.picks import Pick
from train.rules import pair_rows
from train.settings import DpoSettings

pytestmark = pytest.mark.slow
Batch = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def job(starter_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("dpo-trainer")
    base = make_base(starter_dir, folder / "base")
    run = make_run(folder / "run-1", "dpo", base, strength="soft", config={"precision": "bf16"})
    return open_job(run, DpoSettings)


def test_what_the_start_was_trained_on_is_not_measured_on(job: Job) -> None:
    config = job.config | {"known_held_out": ["prompt-100", "prompt-7"]}
    rows, fewer = read_rows(job, encode_pair), read_rows(replace(job, config=config), encode_pair)
    assert (rows.counts["rows_eval"], fewer.counts["rows_eval"]) == (8, 7)
    assert rows.counts["rows_train"] == fewer.counts["rows_train"] == 24


@pytest.fixture(scope="module")
def trainer(job: Job) -> WeightedDPOTrainer:
    """With an adapter that is far from its start, so that no score is zero."""
    rows = read_rows(job, encode_pair)
    made = WeightedDPOTrainer(
        **start(job),
        args=DPOConfig(**arguments(job, rows), beta=0.1, label_smoothing=0.2),
        pair_loss=PairLoss("sigmoid", 0.1, 0.2),
        imitation_weight=0.0,
        length_alpha=1.0,
        batch=job.settings.batch,
        train_dataset=rows.train,
        eval_dataset=rows.held_out,
        data_collator=WeightedCollator(pad_token_id=job.pad_token_id),
        processing_class=job.tokenizer,
    )
    made.model.float()  # in bf16 a batch of one is rounded differently, by more than a weight tells
    torch.manual_seed(1)
    for name, parameter in made.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.3)
    return made


@pytest.fixture
def batch(trainer: WeightedDPOTrainer) -> Iterator[Batch]:
    rows = [trainer.train_dataset[n] for n in range(4)]
    trainer.known.clear()
    yield trainer.data_collator(rows)
    trainer.loss_types, trainer.loss_weights, trainer.ld_alpha = ["sigmoid"], [1.0], None
    trainer.pair_loss, trainer.imitation_weight = PairLoss("sigmoid", 0.1, 0.2), 0.0
    trainer.length_alpha = 1.0


def ours(trainer: WeightedDPOTrainer, batch: Batch, **changes: Any) -> torch.Tensor:
    loss: torch.Tensor = trainer.compute_loss(trainer.model, batch | changes)
    return loss


def theirs(trainer: WeightedDPOTrainer, batch: Batch) -> torch.Tensor:
    plain = {name: value for name, value in batch.items() if name not in OURS}
    loss: torch.Tensor = DPOTrainer._compute_loss(trainer, trainer.model, plain, False)
    return loss


ONES = torch.ones(4)
OURS = ("p", "weight", "row")  # columns that TRL does not know


@pytest.mark.parametrize("imitated", [0.0, 0.2])
@pytest.mark.parametrize("name", LOSSES)
def test_certain_picks_of_weight_one_have_the_loss_of_trl(
    trainer: WeightedDPOTrainer, batch: Batch, name: str, imitated: float
) -> None:
    trainer.pair_loss, trainer.imitation_weight = PairLoss(name, 0.1, 0.2), imitated
    trainer.loss_types, trainer.loss_weights = [name, "sft"], [1.0, imitated]
    own = ours(trainer, batch, p=ONES, weight=ONES)
    assert own.item() == pytest.approx(theirs(trainer, batch).item(), rel=1e-6)
    assert abs(own.item()) > 1e-3


def test_the_length_weight_is_that_of_trl(trainer: WeightedDPOTrainer, batch: Batch) -> None:
    plain = ours(trainer, batch, p=ONES, weight=ONES).item()
    trainer.length_alpha = trainer.ld_alpha = 0.3
    trainer.known.clear()  # a run has one length_alpha
    own = ours(trainer, batch, p=ONES, weight=ONES).item()
    assert own == pytest.approx(theirs(trainer, batch).item(), rel=1e-6)
    assert own != pytest.approx(plain, rel=1e-3)


def test_gradients_and_logs_are_those_of_trl(trainer: WeightedDPOTrainer, batch: Batch) -> None:
    gradients, logs = [], []
    trainable = [p for p in trainer.model.parameters() if p.requires_grad]
    listed = trainer._metrics["train" if trainer.model.training else "eval"]
    certain = batch | {"p": ONES, "weight": ONES}
    for compute in (ours, theirs):
        listed.clear()
        gradients.append(torch.autograd.grad(compute(trainer, certain), trainable))
        logs.append({name: sum(listed[name]) / len(listed[name]) for name in SHOWN})
    for own, other in zip(*gradients, strict=True):
        torch.testing.assert_close(own, other)
    assert logs[0] == pytest.approx(logs[1])


@pytest.mark.parametrize("name", ["sigmoid", "sigmoid_norm", "ipo"])
def test_margins_are_what_the_loss_compares(
    trainer: WeightedDPOTrainer, batch: Batch, name: str
) -> None:
    """So a margin of 10 says the same of each: with sums, a long answer would have it at once."""
    trainer.pair_loss = PairLoss(name, 0.1)
    trainer._metrics["train"].clear()
    loss = ours(trainer, batch, p=ONES, weight=ONES).item()
    margins = torch.tensor(trainer._metrics["train"]["rewards/margins"])
    if name == "ipo":
        expected = ((margins / 0.1 - 5) ** 2).mean()
    else:
        expected = torch.nn.functional.softplus(-margins).mean()
    assert loss == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("imitated", [0.0, 0.2])
@pytest.mark.parametrize("name", LOSSES)
def test_weights_and_soft_labels_act_row_by_row(
    trainer: WeightedDPOTrainer, batch: Batch, name: str, imitated: float
) -> None:
    """A batch is the mean of its rows, and a soft label the mean of both orders; weights are not
    made to sum to the number of rows. Likelihood is a mean over tokens, and a soft label of 70 %
    pulls with 40 % of it."""
    trainer.pair_loss, trainer.imitation_weight = PairLoss(name, 0.1, 0.2), imitated
    p, weight = torch.tensor([1.0, 0.9, 0.7, 0.5]), torch.tensor([0.5, 3.0, 1.5, 0.25])
    trainer.loss_types = [name]
    by_hand = nats = 0.0
    for row in range(4):
        both = [theirs(trainer, of_row(batch, row, flip)).item() for flip in (False, True)]
        own, sure = weight[row].item(), p[row].item()
        by_hand += own * (sure * both[0] + (1 - sure) * both[1]) / 4
        nats -= own * (2 * sure - 1) * log_likelihood(trainer, of_row(batch, row, flip=False))
    tokens = batch["completion_mask"][:4].sum().item()
    found = ours(trainer, batch, p=p, weight=weight).item()
    assert found == pytest.approx(by_hand + imitated * nats / tokens, rel=1e-5)


def log_likelihood(trainer: WeightedDPOTrainer, pair: Batch) -> float:
    """Of the chosen answer, in nats, from the plain logits."""
    with torch.no_grad():
        logits = trainer.model(pair["input_ids"][:1], pair["attention_mask"][:1]).logits
    logps = logits[0, :-1].log_softmax(-1).gather(1, pair["input_ids"][0, 1:, None])[:, 0]
    return float((logps * pair["completion_mask"][0, 1:]).sum())


def of_row(batch: Batch, row: int, flip: bool) -> Batch:
    """One pair as a batch of its own, with its sides exchanged or not."""
    order = [row + 4, row] if flip else [row, row + 4]
    return {name: value[order] for name, value in batch.items() if name not in OURS}


def test_the_reference_is_asked_once_for_each_row(
    trainer: WeightedDPOTrainer, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ours(trainer, batch)
    monkeypatch.setattr(trainer, "_ask_reference", None)  # it would be an error to call it
    torch.testing.assert_close(ours(trainer, batch), first)
    held_out = trainer.data_collator([trainer.eval_dataset[0]])
    assert held_out["row"].item() not in trainer.known  # numbered apart from the rows to train on
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(TypeError):  # it is asked: one process alone would wait for the others
        ours(trainer, batch)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("weight", [(1.0, 0.5), (1.0, 1.0), (1.0, 1.5), (0.5, 1.0)]),
        ("soft", [(0.7, 1.0), (0.9, 1.0), (0.95, 1.0), (0.5, 1.0)]),
        ("ignore", [(1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (0.5, 1.0)]),
    ],
)
def test_how_sure_a_pick_is_reaches_the_batch(
    job: Job, trainer: WeightedDPOTrainer, rule: str, expected: list[tuple[float, float]]
) -> None:
    """Picked slightly, clearly, much; and a tie."""
    settings = replace(job.settings, strength=rule, ties="soft")
    told = [pick(n, strength=n + 1) for n in range(3)] + [pick(3, verdict="tie", better=None)]
    rows = [row for one in told for row in pair_rows(Pick.of(one), settings)]
    encoded = [encode_pair(job.encoder, row)[0] | {"row": n} for n, row in enumerate(rows)]
    batch = trainer.data_collator(encoded)
    found = list(zip(batch["p"].tolist(), batch["weight"].tolist(), strict=True))
    assert found == [pytest.approx(one) for one in expected]


def test_rows_are_tokenised_as_trl_does_it(job: Job, trainer: WeightedDPOTrainer) -> None:
    rows = [row for n in range(3) for row in pair_rows(Pick.of(pick(n)), job.settings)]
    plain = Dataset.from_list(
        [
            {
                "prompt": row.prompt,
                "chosen": [{"role": "assistant", "content": row.chosen}],
                "rejected": [{"role": "assistant", "content": row.rejected}],
            }
            for row in rows
        ]
    )
    theirs_ = DPOTrainer._prepare_dataset(trainer, plain, job.tokenizer, trainer.args, "train")
    for row, other in zip(rows, theirs_, strict=True):
        columns, length = encode_pair(job.encoder, row)
        assert all(columns[name] == other[name] for name in columns if name.endswith("_ids"))
        assert length == len(columns["prompt_ids"]) + max(
            len(columns["chosen_ids"]), len(columns["rejected_ids"])
        )
        assert columns["chosen_ids"][-1] == job.tokenizer.eos_token_id
