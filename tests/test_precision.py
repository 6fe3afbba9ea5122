"""The gap between the policy that was trained and the one that is served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from store.rows import Invalid
from tests.one_answer import Server, one_answer
from train.policy.client import GenerationFailed, PolicyClient, PromptRefused
from train.precision import LEAST_BOUND, Gap, Scored, gap, measure, read_scored
from train.run_folder import RunFolder


@pytest.fixture
def server() -> Iterator[Server]:
    with one_answer() as made:
        yield made


@pytest.fixture
def client(server: Server) -> Iterator[PolicyClient]:
    made = PolicyClient.over_url(server.url, None)
    yield made
    made.close()


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def scored_by_vllm(*logprobs: float | None) -> dict[str, Any]:
    """As vLLM answers for the tokens 10, 11, ...; the first of a prompt has no log-probability."""
    places = [
        None if value is None else {str(10 + number): {"logprob": value, "rank": 1}}
        for number, value in enumerate(logprobs)
    ]
    return {"choices": [{"text": "x", "prompt_logprobs": places}]}


def write(run: RunFolder, *rows: dict[str, Any]) -> None:
    (run.path / "scored.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


SURPRISE = 0.8  # nats per token of the starter's held-out answers
ROW = {"prompt_ids": [10, 11], "answer_ids": [12, 13], "logprobs": [-0.5, -1.0]}


# --- the figures, worked out by hand ------------------------------------------------------------


def test_mean_and_largest_are_over_all_tokens() -> None:
    answers = [([-0.5, -1.0], [-0.75, -1.0]), ([-2.5], [-1.5])]
    found = gap(answers, largest=0.3)
    third = pytest.approx(1.25 / 3)
    assert found == Gap(third, 1.0, 3, pytest.approx(4 / 3), pytest.approx(0.4))
    assert found.warning


def test_signs_do_not_cancel_out() -> None:
    found = gap([([-1.0, -1.0], [-1.5, -0.5])])
    assert found is not None
    assert (found.mean, found.max) == (0.5, 0.5)


def test_nothing_to_compare_is_no_gap() -> None:
    assert gap([]) is None
    assert gap([([], [])]) is None


def test_answers_of_different_length_are_a_bug() -> None:
    with pytest.raises(ValueError, match="zip"):
        gap([([-1.0], [-1.0, -2.0])])


def test_answers_known_by_heart_leave_room_for_rounding() -> None:
    found = gap([([-0.001, 0.0], [-0.005, -0.001])])
    assert found is not None
    assert found.bound == LEAST_BOUND
    assert found.warning is None


def test_the_bound_is_on_the_mean_and_holds_at_equality() -> None:
    assert Gap(0.02, 3.0, 9, 2.0, bound=0.02).warning is None
    assert Gap(0.0531, 0.4, 900, 2.0, bound=0.02).warning == (
        "The policy that is served differs from the one that was trained by 0.053 per token, and "
        "at most 0.020 is expected. Train and serve the base in one precision: precision=served "
        "in the run's settings (docs/precision.md)."
    )


def test_what_was_measured_on_the_starter_falls_on_the_right_side() -> None:
    """benchmarks/precision_gap.py; docs/precision.md has the table."""
    for mean, wide in ((0.0021, False), (0.0023, False), (0.0205, True), (0.0225, True)):
        found = gap([([-SURPRISE], [-SURPRISE - mean])])
        assert found is not None
        assert bool(found.warning) is wide


def test_as_metrics_it_is_plain_json() -> None:
    found = Gap(0.01, 0.2, 40, 0.5, 0.02).as_dict()
    assert json.loads(json.dumps(found)) == {
        "mean": 0.01, "max": 0.2, "tokens": 40, "surprise": 0.5, "bound": 0.02, "warning": None,
    }  # fmt: skip


# --- what the run wrote ---------------------------------------------------------------------------


def test_a_run_that_scored_nothing(run: RunFolder, client: PolicyClient) -> None:
    assert read_scored(run) == []
    assert measure(client, "policy-000001", run) is None


def test_scores_that_do_not_fit_their_answer(run: RunFolder) -> None:
    write(run, ROW | {"logprobs": [-0.5]})
    with pytest.raises(Invalid, match=r"1 log-probabilities for an answer of 2 tokens"):
        read_scored(run)


def test_rows_are_read_in_order(run: RunFolder) -> None:
    write(run, ROW, ROW | {"answer_ids": [12], "logprobs": [-0.25]})
    assert read_scored(run) == [Scored(**ROW), Scored([10, 11], [12], [-0.25])]


# --- with a server --------------------------------------------------------------------------------


def test_vllm_scores_the_tokens_of_the_answer(client: PolicyClient, server: Server) -> None:
    server.answer(scored_by_vllm(None, -9.0, -0.5, -1.25))
    assert client.score("policy-000007", [10, 11], [12, 13]) == [-0.5, -1.25]
    ((path, body),) = server.asked
    assert path == "/v1/completions"
    assert body == {
        "model": "policy-000007", "prompt": [10, 11, 12, 13], "max_tokens": 1, "temperature": 0,
        "prompt_logprobs": 0,
    }  # fmt: skip


def test_the_gap_of_a_run(run: RunFolder, client: PolicyClient, server: Server) -> None:
    write(run, ROW, ROW)
    server.answer(scored_by_vllm(None, -9.0, -0.5, -1.25))
    found = measure(client, "policy-000001", run, largest=0.1)
    assert found == Gap(mean=0.125, max=0.25, tokens=4, surprise=0.75, bound=pytest.approx(0.075))
    assert found.warning
    assert len(server.asked) == 2


def test_an_answer_that_fills_the_context_is_passed_over(
    run: RunFolder, client: PolicyClient, server: Server
) -> None:
    write(run, ROW)
    server.answer({"error": {"message": "This model's maximum context length is 4."}}, 400)
    assert measure(client, "policy-000001", run) is None
    with pytest.raises(PromptRefused, match="maximum context length"):
        client.score("policy-000001", [10, 11], [12, 13])


@pytest.mark.parametrize(
    "answer",
    [
        scored_by_vllm(None, -9.0, -0.5),  # a token is missing
        scored_by_vllm(None, -9.0, -0.5, None),
        {"choices": [{"text": "x"}]},
        {"choices": []},
        scored_by_vllm(None, -9.0, -0.5, float("nan")),
    ],
)
def test_half_an_answer_is_none(client: PolicyClient, server: Server, answer: Any) -> None:
    server.answer(answer)
    with pytest.raises(GenerationFailed):
        client.score("policy-000001", [10, 11], [12, 13])


def test_a_server_at_fault_is_not_the_policys_gap(
    run: RunFolder, client: PolicyClient, server: Server
) -> None:
    write(run, ROW)
    server.answer({"error": {"message": "EngineCore died"}}, 500)
    with pytest.raises(GenerationFailed, match="EngineCore died"):
        measure(client, "policy-000001", run)
