"""What the research page says in each language: reasons of the loop, spans, counts, states."""

from __future__ import annotations

import ast
import errno
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from itertools import product
from pathlib import Path
from typing import get_args

import pytest

import train.gate
from annotate.language import catalogue, languages, translate
from annotate.reasons import PATTERNS, why
from annotate.research_cards import agreement_card, round_card
from annotate.views import Overview
from annotate.wording import accuracy, ago, kind_of, rows_used, span, state_of
from store import runs
from store.rows import RUN_KINDS, Invalid, PolicyStatus, RunStatus, utc_now
from tests.stored import completion
from tests.website import made_site, press
from train.gate import GateConfig, Verdict, judge
from train.plan_words import MESSAGES
from train.policy.server import State as ServerState
from train.script import enough_rows, reason
from train.triggers import LoopConfig, State, outlook

CHINESE = "zh-CN"
ENGLISH = re.compile(r"[A-Za-z]{2,} [a-z]{2,}")
GOOD = [completion(f"A whole answer {n} of several different words.") for n in range(4)]
BAD = [completion("no no no no no no no " * 9, end="length") for _ in range(4)]
EMPTY = [completion("")]
NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
OVERVIEW = Overview(
    server_state="up",
    server_note="",
    champion=None,
    picks=63,
    picks_since_round=63,
    annotators=1,
    median_seconds=None,
    agreement=None,
    triggers=[],
    round_every=100,
    next_round_in=37,
    prompts=0,
    runs=[],
    policies=[],
    imported=0,
)


def verdicts() -> list[Verdict]:
    config = GateConfig()
    return [
        judge(0.6, 40, GOOD, GOOD, config),
        judge(0.4, 40, BAD, GOOD, config),
        judge(0.4, 40, EMPTY, GOOD, config),
        judge(0.6, 40, BAD, GOOD, config, (4.0, 9.0)),
    ]


@pytest.mark.parametrize("verdict", verdicts(), ids=["promoted", "rejected", "empty", "too long"])
def test_the_gates_reasons_are_told_in_chinese(verdict: Verdict) -> None:
    assert verdict.reason.endswith(why(verdict.reason, "en"))
    told = why(verdict.reason, CHINESE)
    assert told.endswith("。") and not ENGLISH.search(told)


def test_every_check_of_the_gate_can_be_told() -> None:
    """Also those that pass: the training room lists them all."""
    sentences = {check.sentence for verdict in verdicts() for check in verdict.checks}
    assert [s for s in sentences if ENGLISH.search(why(s, CHINESE))] == []


@pytest.mark.parametrize("name", PATTERNS)
def test_reasons_and_their_english_agree(name: str) -> None:
    sentence = catalogue("en")[f"research.why.{name}"]
    filled = (
        sentence.format(a=a, b=b, c=c, d=d, e=d)
        for a, b, c, d in product(("5", "5%", "policy-1"), repeat=4)
    )
    assert any(re.fullmatch(PATTERNS[name], each) for each in filled)


# Modules where a run is made, carried out or ended; what they raise is its reason.
TRAIN = Path(train.gate.__file__).parent
RAISERS = (
    "adapters fitting kto launch on_ray quantized reward run_config run_folder script watching"
)
RAISED = ("Invalid", "BadAdapter", "FloatingPointError")
# Refused when the app starts; never met; put together from parts, which other tests hold.
ELSEWHERE = re.compile(
    r"train\.(5 must|device|gpu_sharing|processes|storage must)|policy-5 is published"
    r"|.*(held out, 5|; 5)"
)


def said(node: ast.expr) -> list[str]:
    """What a literal may say, a 5 for each value in it."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            return ["".join(pieces) for pieces in product(*map(said, parts))]
        case ast.FormattedValue(value=ast.IfExp(body=one, orelse=other)):
            return [*said(one), *said(other)]
        case ast.FormattedValue(value=value):
            return ["policy-5" if "policy_id" in ast.unparse(value) else "5"]
        case _:
            return []


def raised() -> Iterator[str]:
    for name in RAISERS.split():
        file = next(TRAIN.rglob(f"{name}.py"))
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Raise(exc=ast.Call(func=ast.Name(id=kind), args=[text])):
                    if kind in RAISED:
                        yield from said(text)


def test_what_the_code_raises_is_told_in_chinese() -> None:
    sentences = [sentence for sentence in raised() if not ELSEWHERE.match(sentence)]
    assert len(sentences) > 15
    told = [re.sub("`.*?`", "", why(sentence, CHINESE)) for sentence in sentences]
    assert [one for one in told if ENGLISH.search(one)] == []


@pytest.mark.parametrize("refused", [0, 2])
@pytest.mark.parametrize("alike", [0, 3])
def test_too_few_rows_are_told_in_chinese(refused: int, alike: int) -> None:
    counts = {"rows_train": 3, "rows_eval": 1, "rows_too_long": 4}
    with pytest.raises(Invalid) as raised:
        enough_rows(counts | {"rows_refused": refused, "rows_alike": alike})
    assert not ENGLISH.search(why(str(raised.value), CHINESE))


@pytest.mark.parametrize(
    "error",
    [
        KeyError("word"),
        MemoryError(),
        OSError(errno.ENOSPC, "No space left on device"),
        Invalid("The base model has no chat template. Choose an instruct or chat model."),
    ],
)
def test_the_end_of_a_script_is_told_in_chinese(error: Exception) -> None:
    assert not ENGLISH.search(why(reason(error), CHINESE))


def test_the_reasons_of_a_plan_are_told_too() -> None:
    reason = MESSAGES["few_picks.dpo"].format(least=8, picks=3)
    told = why(reason, CHINESE)
    assert "8" in told and "3" in told and not ENGLISH.search(told)
    assert why(MESSAGES["no_picks"], CHINESE) == translate(CHINESE, "train.plan.no_picks")


@pytest.mark.parametrize(
    ("alpha", "told"),
    [
        (0.8, "0.80.*alpha: good"),
        (0.67, "0.67.*alpha: fair"),
        (-0.1, "-0.10.*alpha: low"),
        (None, "It needs pairs that two people have judged"),
    ],
)
def test_how_much_people_agree(alpha: float | None, told: str) -> None:
    assert re.search(told, unescape(agreement_card(replace(OVERVIEW, agreement=alpha), "en")))


def test_unknown_reasons_stay_as_they_are() -> None:
    reason = "Not judged: vLLM did not answer."
    assert why(reason, CHINESE) == "未评定：vLLM did not answer."
    assert why(None, CHINESE) == ""


@pytest.mark.parametrize("lang", languages())
def test_every_state_has_a_word(lang: str) -> None:
    states = {*get_args(PolicyStatus), *get_args(RunStatus), "promoted"}
    told = [state_of(state, lang) for state in states] + [kind_of(k, lang) for k in RUN_KINDS]
    told += [translate(lang, f"research.server.{state}") for state in get_args(ServerState)]
    told += [translate(lang, f"research.server.{state}_note") for state in get_args(ServerState)]
    assert [word for word in told if word.startswith("research.")] == []


def test_spans_and_counts() -> None:
    assert [span(s, "en") for s in (-3, 59, 61, 7260)] == [
        "0 s",
        "59 s",
        "1 min 1 s",
        "2 h 1 min",
    ]
    assert [span(s, CHINESE) for s in (59, 61, 7260)] == ["59 秒", "1 分 1 秒", "2 小时 1 分"]
    then = utc_now() - timedelta(hours=1, minutes=5)
    assert (ago(then, "en"), ago(then, CHINESE)) == ("1 hour ago", "1 小时前")
    assert ago(utc_now(), "en") == "just now"
    assert ago(utc_now() - timedelta(hours=47, minutes=5), "en") == "47 hours ago"
    assert ago(utc_now() - timedelta(hours=49), "en") == "2 days ago"
    shares = {"accuracy": 0.654, "accuracy_low": 0.5, "accuracy_high": 0.8189}
    assert accuracy(shares) == "65.4% [50%, 81.9%]", "as the training room writes it"
    metrics = {"rows_train": 1200, "rows_eval": 0, "rows_cut": 1, "ties_dropped": 1}
    assert rows_used(metrics, "en") == ["1,200 to train on", "1 cut short", "1 tie left out"]
    assert rows_used(metrics, CHINESE) == ["训练 1,200 条", "截断 1 条", "未计入平局 1 条"]


@pytest.mark.parametrize(
    ("config", "changes", "said"),
    [
        (LoopConfig(), {}, ["in 37 picks", "One starts every 100 picks."]),
        (LoopConfig(every_picks=60), {}, ["due now"]),
        (LoopConfig(every_picks=60, picks_cooldown_minutes=30), {}, ["in 20 minutes", "New picks"]),
        (LoopConfig(), {"held": "run-000007"}, ["not while run-000007 is paused"]),
        (LoopConfig(every_picks=0, cron="0 3 * * *"), {}, ["at 2026-03-05 03:00", "Time of day"]),
        (LoopConfig(every_picks=0), {}, ["on demand"]),
    ],
)
def test_when_the_next_round_starts(
    config: LoopConfig, changes: dict[str, str], said: list[str]
) -> None:
    ten_minutes_ago = NOON - timedelta(minutes=10)
    known = State(picks=63, last_round=ten_minutes_ago, checked=NOON, **changes)  # type: ignore[arg-type]
    left = max(0, config.every_picks - known.picks)
    seen = replace(
        OVERVIEW,
        triggers=outlook(NOON, known, config),
        round_every=config.every_picks,
        next_round_in=left,
    )
    card = round_card(seen, "en")
    assert [words for words in said if words not in card] == [], card


def test_what_pops_up_is_in_the_readers_language(tmp_path: Path) -> None:
    with made_site(tmp_path) as site, site.signed_in("researcher") as client:
        client.headers["Accept-Language"] = "zh-CN"
        run_id = runs.add(site.store, "rm", {}, None)
        shown = press(client, "", page="/research")
        assert told("等待开始", shown) and told("取消本次运行", shown)
        runs.mark(site.store, run_id, "done")
        said = press(client, "cancel-run", None, None, page="/research")
        assert told(f"{run_id} 已经结束。", said)


def told(sentence: str, events: str) -> bool:
    return json.dumps(sentence)[1:-1] in events or sentence in events
