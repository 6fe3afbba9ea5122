"""The pure parts of what the training scripts share."""

from __future__ import annotations

from copy import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from accelerate.data_loader import prepare_data_loader, skip_first_batches
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from train import sft
from train.batching import SimilarLengths
from train.dpo_trainer import encode_pair
from train.encoding import Encoder, Unfit, common_prefix, open_tokenizer
from train.kto import balance, neighbours
from train.kto import encode as encode_answer
from train.picks import AnswerRow, Comparison, ExampleRow, PairRow, RankingRow
from train.quantized import base_arguments
from train.reward_trainer import encode_ranking
from train.run_folder import RunFolder
from train.trackers import PACKAGES
from train.watching import Progress, age, in_our_words, points

pytestmark = pytest.mark.slow  # imports torch
HELLO: Any = [{"role": "user", "content": "Why is the sky blue?"}]


# --- steps and batches ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "times", "expected"),
    [
        (100, 4, [20, 40, 60, 80]),
        (10, 3, [2, 5, 8]),
        (3, 4, [1, 2]),
        (1, 4, []),
        (100, 0, []),
    ],
)
def test_points_lie_evenly_between_the_ends(steps: int, times: int, expected: list[int]) -> None:
    assert points(steps, times) == expected


@pytest.mark.parametrize("processes", [1, 2])
def test_a_resumed_pass_goes_on_with_the_rows_that_it_had_not_had(processes: int) -> None:
    def batches(epoch: int, skip: int = 0) -> list[list[int]]:
        sampler: Any = SimilarLengths(range(40), 2, 0, lambda: epoch)
        loader: Any = DataLoader(range(40), batch_size=2, sampler=sampler)
        shared = prepare_data_loader(loader, num_processes=processes, put_on_device=False)
        rest = skip_first_batches(shared, skip) if skip else shared
        rest.set_epoch(epoch)
        return [batch.tolist() for batch in rest]

    assert batches(1, skip=3) == batches(1)[3:] != batches(0)[3:]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [([0.7], 0), ([0.7, 0.6], 0), ([0.6, 0.7, 0.65], 2), ([0.6, 0.6], 1)],
)
def test_age_of_the_best_measurement(losses: list[float], expected: int) -> None:
    assert age(losses) == expected


def test_the_base_is_loaded_in_the_precision_of_the_run() -> None:
    assert "quantization_config" not in base_arguments("bf16")
    assert base_arguments("nf4")["quantization_config"].bnb_4bit_use_double_quant


# --- progress ---------------------------------------------------------------------------------


def test_logs_get_the_names_of_the_charts() -> None:
    assert in_our_words({"loss": "0.5", "rewards/chosen": 1, "num_tokens": 7, "total_flos": 3}) == {
        "loss": 0.5,
        "reward_chosen": 1.0,
        "tokens": 7.0,
    }
    held_out = {
        "eval_loss": 0.4,
        "eval_rewards/margins": 2,
        "eval_num_tokens": 7,
        "eval_runtime": 1,
    }
    assert in_our_words(held_out) == {"eval_loss": 0.4, "eval_margin": 2.0}
    assert in_our_words({"train_runtime": 3.0, "train_loss": 0.5}) == {}


class State:
    global_step, max_steps = 3, 10


def test_a_resumed_run_counts_tokens_and_seconds_on(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.add_progress({"step": 2, "tokens": 100, "seconds": 4.0})
    run.add_progress({"step": 2, "eval_loss": 0.6, "seconds": 5.0})  # measured before it was saved
    times = iter([0.0, 1.0, 3.0])
    progress = Progress(run, clock=lambda: next(times))
    progress.on_step_begin(None, State, None)
    progress.on_log(None, State, None, {"loss": 0.5, "num_tokens": 40})
    line = run.progress()[-1]
    assert (line["tokens"], line["seconds"], line["tokens_per_second"]) == (140, 8.0, 20.0)
    assert (line["step"], line["max_steps"]) == (3, 10)


def test_measuring_and_sampling_are_no_time_of_training(tmp_path: Path) -> None:
    run, now = RunFolder(tmp_path), [0.0]
    progress = Progress(run, clock=lambda: now[0])
    for tokens in (40, 80, 120):
        now[0] += 50.0  # samples of the start, or the best adapter after a measurement
        progress.on_step_begin(None, State, None)
        now[0] += 2.0
        progress.on_log(None, State, None, {"loss": 0.5, "num_tokens": tokens})
        now[0] += 30.0
        progress.on_log(None, State, None, {"eval_loss": 0.6})
        progress.on_evaluate(None, State, None)
    assert [line.get("tokens_per_second") for line in run.progress()] == [20.0, None] * 3


def test_rates_of_several_steps_in_a_row(tmp_path: Path) -> None:
    run, now = RunFolder(tmp_path), [0.0]
    progress = Progress(run, clock=lambda: now[0])
    for tokens in (40, 80):
        for _ in range(2):  # steps to a line
            progress.on_step_begin(None, State, None)
            now[0] += 1.0
        progress.on_log(None, State, None, {"loss": 0.5, "num_tokens": tokens})
    assert [line["tokens_per_second"] for line in run.progress()] == [20.0, 20.0]


# --- rows -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder(starter_dir: Path) -> Encoder:
    return Encoder(AutoTokenizer.from_pretrained(starter_dir))


def test_the_prompt_ends_where_the_answer_begins(encoder: Encoder) -> None:
    one, other = encoder.answers(HELLO, ["Because of the air.", "No idea."])
    assert one.prompt == other.prompt == encoder.prompt(HELLO)
    text = encoder.tokenizer.decode
    assert text(one.prompt).endswith("<|assistant|>")
    assert text(one.answer) == "Because of the air.<|end|>"
    assert text(other.answer) == "No idea.<|end|>"


@pytest.mark.parametrize(
    ("reserved", "pads"), [([], "<end>"), (["<reserved>", "<right_pad_id>"], "<right_pad_id>")]
)
def test_the_end_of_an_answer_is_no_padding_where_another_token_is_at_hand(
    tmp_path: Path, reserved: list[str], pads: str
) -> None:
    words = WordLevel({"sun": 0, "<unknown>": 1}, unk_token="<unknown>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), eos_token="<end>")
    tokenizer.add_special_tokens({"additional_special_tokens": reserved})
    tokenizer.save_pretrained(tmp_path)
    assert open_tokenizer(str(tmp_path)).pad_token == pads


def templated(encoder: Encoder, template: str, at: datetime | None = None) -> Encoder:
    tokenizer = copy(encoder.tokenizer)
    tokenizer.chat_template = template
    return Encoder(tokenizer, at)


ROLES = "{% for m in messages %}{{ m['role'] + ': ' + CONTENT + ' ' }}{% endfor %}"


def test_a_rejected_answer_that_was_cut_has_no_end(encoder: Encoder) -> None:
    def rejected(text: str, cut: bool) -> str:
        row = PairRow(HELLO, "Because of the air.", text, 1.0, 1.0, "pick", rejected_cut=cut)
        columns, length = encode_pair(encoder, row)
        chosen, other = columns["chosen_ids"], columns["rejected_ids"]
        assert length == len(columns["prompt_ids"]) + max(len(chosen), len(other))
        assert encoder.tokenizer.decode(chosen) == "Because of the air.<|end|>"
        return str(encoder.tokenizer.decode(other))

    assert rejected("No idea", cut=False) == "No idea<|end|>"
    assert rejected("No idea", cut=True) == "No idea"
    bad = AnswerRow(HELLO, "No idea", False, "pick", cut=True)
    assert encoder.tokenizer.decode(encode_answer(encoder, bad)[0]["completion_ids"]) == "No idea"


def test_messages_that_a_template_refuses_are_unfit(encoder: Encoder) -> None:
    strict = templated(encoder, "{{ raise_exception('Roles must alternate.') }}")
    with pytest.raises(Unfit, match=r"Roles must alternate\.") as found:
        strict.prompt(HELLO)
    assert found.value.why == "refused"


def test_answers_that_a_template_makes_alike_are_unfit(encoder: Encoder) -> None:
    """As those of models that think: what they thought is not shown again."""
    thinking = templated(encoder, ROLES.replace("CONTENT", "m['content'].split('</think>')[-1]"))
    one, other, five = "<think>one</think>4", "<think>two</think>4", "<think>one</think>5"
    columns, _ = encode_pair(thinking, PairRow(HELLO, one, five, 1.0, 1.0, "pick"))
    assert columns["chosen_ids"] != columns["rejected_ids"]
    with pytest.raises(Unfit) as found:
        encode_pair(thinking, PairRow(HELLO, one, other, 1.0, 1.0, "pick"))
    assert found.value.why == "alike"
    said = [Comparison(0, 1, 1.0, 0.0), Comparison(0, 2, 1.0, 0.0), Comparison(1, 2, 1.0, 0.0)]
    columns, _ = encode_ranking(
        thinking, RankingRow(HELLO, [one, other, five], said, 1.0, "ranked")
    )
    assert (columns["better"], columns["worse"]) == ([0, 1], [2, 2]), "all but the equal two"
    with pytest.raises(Unfit):
        encode_ranking(thinking, RankingRow(HELLO, [one, other], said[:1], 1.0, "ranked"))


def test_a_template_writes_the_day_on_which_the_picks_were_frozen(encoder: Encoder) -> None:
    then = datetime(2025, 3, 9, 23, 59, tzinfo=UTC)
    dated = templated(encoder, "{{ strftime_now('%d %b %Y') }}", then)
    assert encoder.tokenizer.decode(dated.prompt(HELLO)) == "09 Mar 2025"


def test_only_the_answer_is_imitated(encoder: Encoder) -> None:
    columns, length = sft.encode(encoder, ExampleRow(HELLO, "Because.", "pick"))
    prompt = len(encoder.prompt(HELLO))
    assert columns["labels"][:prompt] == [-100] * prompt
    assert columns["labels"][prompt:] == columns["input_ids"][prompt:]
    assert length == len(columns["input_ids"])
    answer = sft.answer_of(columns)
    assert answer.ids == columns["input_ids"] and len(answer.prompt) == prompt


def test_common_prefix() -> None:
    assert common_prefix([1, 2, 3], [1, 2, 4]) == 2
    assert common_prefix([1, 2], [1, 2, 4]) == 2
    assert common_prefix([], [1]) == 0


def test_good_and_bad_answers_count_the_same_in_sum() -> None:
    weights = balance(10, 30, wanted=True)
    assert weights == {"desirable_weight": 2.0, "undesirable_weight": pytest.approx(2 / 3)}
    assert 10 * weights["desirable_weight"] == pytest.approx(30 * weights["undesirable_weight"])
    assert set(balance(10, 30, wanted=False).values()) == {1.0}
    assert set(balance(0, 30, wanted=True).values()) == {1.0}


def test_neighbours_answer_other_prompts_of_the_batch() -> None:
    answers = [[10], [11], [12], [13], [14]]
    as_trl = neighbours([[1], [2], [3], [4], [5]], answers, batch=3)
    assert as_trl == [[12], [10], [11], [14], [13]]
    same = neighbours([[1], [1], [2], [3], [3]], answers, batch=3)
    assert same == [[12], [12], [11], [14], [13]]


def test_the_app_knows_all_trackers() -> None:
    assert PACKAGES.keys() == INTEGRATION_TO_CALLBACK.keys()
