"""What a run would learn from: counted before it starts, written into its config.json. Pure.

The numbers of `Plan.sentence` add up to the picks: each pick is trained on as one thing, held out,
or dropped for one reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from train.picks import PEOPLES, AnswerRow, Origin, Pick, Reason
from train.plan_words import MESSAGES, WORDS
from train.rules import rows_of, why_none
from train.settings import AnySettings, DpoSettings, Part
from train.steps import steps_of

LEAST_PICKS = 8  # that say which answer is better; fewer teach noise
LEAST_ROWS = 4  # to train on; the scripts ask for as many that fit
FEW_HELD_OUT = 10  # the interval of an accuracy is wider than 50 points below this
LEAST_SHOWN = 10  # picks on a screen, before anything is said about their sides
LEAST_PEOPLE = 20  # picks of people, before anything is said about who made them
LEAST_LENGTHS = 50  # picks of two answers, before anything is said about their lengths
ONE_SIDED, ONE_ANNOTATOR, LONGER, DROPPED = 0.95, 0.9, 0.8, 0.5  # shares above which is warned
LEAST_BETA = 1.0  # of sigmoid_norm, which Tulu 3 (arXiv 2411.15124) trains with 5
# Order of the sentence: what is trained on or dropped, by its key in WORDS.
PIECES: tuple[tuple[Origin | None, Reason | None], ...] = (
    ("pick", None),
    ("ranked", None),
    ("tie", None),
    (None, "tie"),
    ("both_bad", None),
    (None, "both_bad"),
    ("edit", None),
    (None, "no_edit"),
    (None, "identical"),
    (None, "cut"),
    (None, "empty"),
    (None, "not_last_turn"),
    (None, "skip"),
    (None, "flag"),
)


@dataclass(frozen=True)
class Remark:
    """A sentence with its key and values, for pages in other languages."""

    key: str
    values: dict[str, int | str]
    message: str


@dataclass(frozen=True)
class Piece:
    """One part of the sentence; `text` is its English form."""

    key: str
    n: int
    text: str


@dataclass(frozen=True)
class Plan:
    part: Part
    picks: int  # of both splits
    rows_train: int
    rows_eval: int
    held_out_picks: int  # that give the rows to measure on
    origins: dict[Origin, int]  # picks that are trained on, by what they are
    dropped: dict[Reason, int]  # picks of both splits
    decided: int  # picks of both splits that say more than that two answers are equally good
    decided_held_out: int  # on which an accuracy can be measured, where the part has one
    good: int  # answers to train on; kto only
    bad: int
    warnings: list[Remark]

    @property
    def used(self) -> int:
        return self.picks - sum(self.dropped.values())

    @property
    def pieces(self) -> list[Piece]:
        """What became of the picks; their numbers add up to `picks`."""
        counts = []
        for origin, reason in PIECES:
            if origin is not None:
                special = f"{origin}.{self.part}"
                key = special if special in WORDS else origin
                counts.append((key, self.origins.get(origin, 0)))
            elif reason is not None:
                counts.append((f"dropped.{reason}", self.dropped.get(reason, 0)))
        counts.append(("held_out", self.held_out_picks))
        return [Piece(key, n, _words(key, n)) for key, n in counts if n]

    @property
    def sentence(self) -> str:
        """Such as "218 picks: 171 pairs, 22 ties dropped, 9 edits, 16 held out"."""
        if not self.picks:
            return "No picks"
        return f"{_words('picks', self.picks)}: {', '.join(one.text for one in self.pieces)}"

    def as_dict(self) -> dict[str, Any]:
        """For config.json and for pages: also what is derived."""
        found = problem(self)
        return asdict(self) | {
            "used": self.used,
            "sentence": self.sentence,
            "pieces": [asdict(piece) for piece in self.pieces],
            "problem": asdict(found) if found else None,
        }


def plan(
    part: Part, train: Iterable[Pick], held_out: Iterable[Pick], settings: AnySettings
) -> Plan:
    """Count what each pick of both splits becomes under these settings."""
    to_train, to_measure = list(train), list(held_out)
    one, other = _tally(to_train, settings), _tally(to_measure, settings)
    counted = Plan(
        part=part,
        picks=len(to_train) + len(to_measure),
        rows_train=one.rows,
        rows_eval=other.rows,
        held_out_picks=other.origins.total(),
        origins=dict(one.origins),
        dropped=dict(one.dropped + other.dropped),
        decided=one.decided + other.decided,
        decided_held_out=other.judged if part in ("rm", "dpo") else other.decided,
        good=one.good,
        bad=one.bad,
        warnings=[],
    )
    return replace(counted, warnings=_warnings(counted, [*to_train, *to_measure], settings))


def problem(planned: Plan) -> Remark | None:
    """The one reason why nothing can be learned or measured."""
    if not planned.picks:
        return _remark("no_picks")
    if not planned.decided:
        return _nothing_decided(planned)
    if planned.decided < LEAST_PICKS:
        key = f"few_picks.{planned.part}"
        return _remark(key, least=LEAST_PICKS, picks=planned.decided)
    if planned.rows_train < LEAST_ROWS or not planned.decided_held_out:
        return _remark("few_prompts", train=planned.rows_train, held_out=planned.rows_eval)
    if planned.part == "kto" and not (planned.good and planned.bad):
        return _remark("only_good" if planned.good else "only_bad", answers=planned.rows_train)
    return None


def _nothing_decided(planned: Plan) -> Remark:
    """What is left are ties, or nothing. One reason where all picks share it."""
    counts = Counter(planned.dropped)
    counts["tie"] += planned.used
    reason, most = counts.most_common(1)[0]
    for key in (f"all_{reason}.{planned.part}", f"all_{reason}"):
        if most == planned.picks and key in MESSAGES:
            return _remark(key)
    return _remark(f"few_picks.{planned.part}", least=LEAST_PICKS, picks=0)


@dataclass
class _Tally:
    """Of one split."""

    rows: int
    origins: Counter[Origin]
    dropped: Counter[Reason]
    decided: int
    judged: int  # with a row that says which of the model's own answers is better
    good: int
    bad: int


def _tally(picks: Sequence[Pick], settings: AnySettings) -> _Tally:
    tally = _Tally(0, Counter(), Counter(), 0, 0, 0, 0)
    for pick in picks:
        rows = rows_of(pick, settings)
        if not rows:
            reason = why_none(pick, settings)
            assert reason is not None
            tally.dropped[reason] += 1
            continue
        origin = rows[-1].origin  # an edit comes last and names the whole pick
        tally.rows += len(rows)
        tally.origins[origin] += 1
        tally.decided += origin != "tie"
        tally.judged += any(row.origin in PEOPLES for row in rows)
        marks = [row.good for row in rows if isinstance(row, AnswerRow)]
        tally.good += sum(marks)
        tally.bad += len(marks) - sum(marks)
    return tally


def _warnings(planned: Plan, picks: Sequence[Pick], settings: AnySettings) -> list[Remark]:
    found = [_one_sided(picks), _one_annotator(picks), _longer(picks)]
    found += [_weak(settings), _unused(settings), _unused_soft(settings)]
    found.append(_patient(settings, planned.rows_train))
    if planned.decided_held_out and planned.held_out_picks < FEW_HELD_OUT:
        found.append(_remark("few_held_out", picks=planned.held_out_picks))
    share = sum(planned.dropped.values()) / max(1, planned.picks)
    if DROPPED < share < 1:
        found.append(_remark("many_dropped", percent=round(100 * share)))
    return [remark for remark in found if remark]


def _one_sided(picks: Sequence[Pick]) -> Remark | None:
    """Somebody who always presses the same key says nothing about the answers."""
    left = [
        pick.better == pick.shown_left
        for pick in picks
        if pick.better is not None and pick.shown_left is not None
    ]
    if len(left) < LEAST_SHOWN:
        return None
    share = sum(left) / len(left)
    if share >= ONE_SIDED:
        return _remark("one_sided_left", percent=round(100 * share))
    if 1 - share >= ONE_SIDED:
        return _remark("one_sided_right", percent=round(100 * (1 - share)))
    return None


def _one_annotator(picks: Sequence[Pick]) -> Remark | None:
    people = Counter(pick.user_id for pick in picks if pick.source == "human")
    if people.total() < LEAST_PEOPLE:
        return None
    user_id, most = people.most_common(1)[0]
    share = most / people.total()
    if share <= ONE_ANNOTATOR:
        return None
    return _remark("one_annotator", percent=round(100 * share), user_id=user_id)


def _longer(picks: Sequence[Pick]) -> Remark | None:
    """Length is the easiest thing to learn from picks, wanted or not."""
    lengths = [
        (len(pick.answers[pick.better].text), len(pick.answers[1 - pick.better].text))
        for pick in picks
        if pick.better is not None
    ]
    differ = [picked > other for picked, other in lengths if picked != other]
    if len(differ) < LEAST_LENGTHS or sum(differ) / len(differ) < LONGER:
        return None
    return _remark("longer_picked", percent=round(100 * sum(differ) / len(differ)))


def _weak(settings: AnySettings) -> Remark | None:
    """Of means per token, a beta that suits sums leaves little: the imitated share outweighs it."""
    if not isinstance(settings, DpoSettings) or settings.loss != "sigmoid_norm":
        return None
    return _remark("weak_beta", beta=f"{settings.beta:g}") if settings.beta < LEAST_BETA else None


def _unused(settings: AnySettings) -> Remark | None:
    """label_smoothing is 0.1 by default, for whoever chooses robust."""
    if not isinstance(settings, DpoSettings) or settings.loss == "robust":
        return None
    if settings.label_smoothing == DpoSettings.label_smoothing:
        return None
    return _remark("unused_smoothing", loss=settings.loss)


def _unused_soft(settings: AnySettings) -> Remark | None:
    """These losses have no difference at which a soft label is met: see train/losses.py."""
    if not isinstance(settings, DpoSettings) or settings.loss not in ("hinge", "apo_zero"):
        return None
    soft = "soft" in (settings.strength, settings.ties)
    return _remark("unused_soft", loss=settings.loss) if soft else None


def _patient(settings: AnySettings, rows: int) -> Remark | None:
    """The first measurement is the best so far, so as many as the patience follow it on the way,
    and there is at most one before each step but the first."""
    on_the_way = max(0, steps_of(rows, settings) - 1)
    evaluations, patience = min(settings.evaluations, on_the_way), settings.patience
    if not patience or patience < evaluations:
        return None
    return _remark("long_patience", evaluations=evaluations, patience=patience)


def _remark(key: str, **values: int | str) -> Remark:
    return Remark(key, values, MESSAGES[key].format(**values))


def _words(key: str, n: int) -> str:
    return f"{n:,} {WORDS[key][n != 1]}"
