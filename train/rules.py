"""What a pick says to each trainer: rows, or the reason why it gives none. Pure; no torch.

docs/picks.md has the table; train/rule_words.py says the same in sentences for a run's config.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from train.picks import (
    REASONS,
    Answer,
    AnswerRow,
    Comparison,
    ExampleRow,
    Origin,
    PairRow,
    Pick,
    RankingRow,
    Reason,
    Row,
)
from train.settings import AnySettings, DpoSettings, KtoSettings, RewardSettings, SftSettings

# By strength: 1 slightly, 2 clearly, 3 much. A pick without one counts as CLEARLY.
CLEARLY = 2
LABELS = {1: 0.7, 2: 0.9, 3: 0.95}  # probability that the picked answer is the better one
WEIGHTS = {1: 0.5, 2: 1.0, 3: 1.5}
MARGINS = {1: 1 / 3, 2: 2 / 3, 3: 1.0}  # of rewards, in nats
EVEN = 0.5  # label of a tie


def rows_of(pick: Pick, settings: AnySettings) -> Sequence[Row]:
    """The rows of whichever trainer the settings belong to."""
    match settings:
        case DpoSettings():
            return pair_rows(pick, settings)
        case RewardSettings():
            return ranking_rows(pick, settings)
        case KtoSettings():
            return answer_rows(pick, settings)
        case SftSettings():
            return example_rows(pick, settings)


def why_none(pick: Pick, settings: AnySettings) -> Reason | None:
    """The reason why `rows_of` is empty; None when it is not."""
    match settings:
        case DpoSettings() | RewardSettings():
            return _duels(pick, settings)[1]
        case KtoSettings():
            return _marked(pick, settings)[1]
        case SftSettings():
            return _imitated(pick, settings)[1]


def pair_rows(pick: Pick, settings: DpoSettings) -> list[PairRow]:
    """DPO: one row for each comparison."""
    texts = _texts(pick)
    rows = []
    for duel in _duels(pick, settings)[0]:
        p, weight, _ = _graded(duel, settings.strength)
        chosen, rejected = texts[duel.better], texts[duel.worse]
        rows.append(
            PairRow(pick.prompt, chosen.text, rejected.text, p, weight, duel.origin, rejected.cut)
        )
    return rows


def ranking_rows(pick: Pick, settings: RewardSettings) -> list[RankingRow]:
    """Reward model: at most one row, of the answers that are compared and no others."""
    duels = _duels(pick, settings)[0]
    if not duels:
        return []
    places = sorted({place for duel in duels for place in (duel.better, duel.worse)})
    comparisons = []
    for duel in duels:
        p, _, margin = _graded(duel, settings.strength)
        better, worse = places.index(duel.better), places.index(duel.worse)
        comparisons.append(Comparison(better, worse, p, margin, duel.origin))
    texts = _texts(pick)
    _, weight, _ = _graded(duels[0], settings.strength)  # the edit, if there is one, comes last
    answers = [texts[place].text for place in places]
    return [RankingRow(pick.prompt, answers, comparisons, weight, duels[-1].origin)]


def answer_rows(pick: Pick, settings: KtoSettings) -> list[AnswerRow]:
    """KTO: single answers, good or bad."""
    return _marked(pick, settings)[0]


def example_rows(pick: Pick, settings: SftSettings) -> list[ExampleRow]:
    """Supervised: at most one answer to imitate."""
    return _imitated(pick, settings)[0]


@dataclass(frozen=True, slots=True)
class _Duel:
    better: int  # places in `_texts`
    worse: int
    origin: Origin
    strength: int | None  # None: a tie


def _graded(duel: _Duel, use: str) -> tuple[float, float, float]:
    """Label, weight and margin of a comparison."""
    if duel.strength is None:
        return EVEN, 1.0, 0.0
    match use:
        case "soft":
            return LABELS[duel.strength], 1.0, 0.0
        case "weight":
            return 1.0, WEIGHTS[duel.strength], 0.0
        case "margin":
            return 1.0, 1.0, MARGINS[duel.strength]
        case _:
            return 1.0, 1.0, 0.0


def _texts(pick: Pick) -> tuple[Answer, ...]:
    """The answers, and behind them the edited one where there is one."""
    edit = _edit(pick)
    return (*pick.answers, edit) if edit else pick.answers


def _edit(pick: Pick) -> Answer | None:
    """None when nothing was edited, or the edit only repeats one of the answers."""
    text = (pick.edited_text or "").strip()
    if not text or _top(pick) is None or text in [one.text.strip() for one in pick.answers]:
        return None
    return Answer(pick.edited_text or "", cut=False)


def _top(pick: Pick) -> int | None:
    """The answer that was picked as the better one or the best."""
    return pick.best if pick.verdict == "ranked" else pick.better


def _duels(pick: Pick, settings: DpoSettings | RewardSettings) -> tuple[list[_Duel], Reason | None]:
    """The comparisons that can be learned from, the edit last, or why there are none."""
    if reason := _left_out(pick, settings.turns, tie=settings.ties == "drop", both_bad=True):
        return [], reason
    top, edit = _top(pick), len(pick.answers)
    wanted = _said(pick, settings.ranked)
    if settings.edits == "use" and top is not None and _edit(pick):
        wanted += [_Duel(edit, place, "edit", CLEARLY) for place in _corrected(pick, top)]
    texts = _texts(pick)
    faults = [_fault(duel, texts) for duel in wanted]
    found = [duel for duel, fault in zip(wanted, faults, strict=True) if fault is None]
    return found, None if found else _worst(faults)


def _corrected(pick: Pick, top: int) -> list[int]:
    """What the edit is held against: the answer that it corrects and, where that one was cut or is
    empty and so cannot win, those that it was picked over."""
    others = [place for place in range(len(pick.answers)) if place != top]
    return [top, *others] if pick.answers[top].cut or _blank(pick.answers[top]) else [top]


def _said(pick: Pick, ranked: str) -> list[_Duel]:
    """The comparisons that the pick itself makes."""
    places = range(len(pick.answers))
    strength = pick.strength or CLEARLY
    if pick.verdict == "tie":
        return [_Duel(one, other, "tie", None) for one, other in combinations(places, 2)]
    if pick.verdict == "ranked":
        best, worst = pick.best or 0, pick.worst or 0
        middle = [place for place in places if place not in (best, worst)]
        above = [(best, worst)]
        if ranked == "all":
            above += [(best, place) for place in middle] + [(place, worst) for place in middle]
        return [_Duel(better, worse, "ranked", strength) for better, worse in above]
    better = pick.better or 0
    return [_Duel(better, place, "pick", strength) for place in places if place != better]


def _marked(pick: Pick, settings: KtoSettings) -> tuple[list[AnswerRow], Reason | None]:
    """Good and bad answers, or why there are none."""
    drop = settings.both_bad == "drop"
    if reason := _left_out(pick, settings.turns, tie=True, both_bad=drop):
        return [], reason
    if pick.verdict == "both_bad":
        different = {answer.text.strip(): answer for answer in pick.answers}
        marks = [(answer, False) for answer in different.values()]
    else:
        edit = _edit(pick) if settings.edits == "use" else None
        good = edit or pick.answers[_top(pick) or 0]
        low = _lowest(pick)
        if _same(good, low):
            return [], _worst([_blank(good), "identical"])
        marks = [(good, True), (low, False)]
    origin = _origin(pick, settings.edits == "use")
    kept = [
        AnswerRow(pick.prompt, answer.text, good, origin, answer.cut)
        for answer, good in marks
        if not (_blank(answer) or (good and answer.cut))
    ]
    return kept, None if kept else _worst([_blank(answer) or "cut" for answer, _ in marks])


def _lowest(pick: Pick) -> Answer:
    place = pick.worst if pick.verdict == "ranked" else 1 - (pick.better or 0)
    return pick.answers[place or 0]


def _imitated(pick: Pick, settings: SftSettings) -> tuple[list[ExampleRow], Reason | None]:
    """The answer to imitate, or why there is none."""
    if reason := _left_out(pick, settings.turns, tie=True, both_bad=True):
        return [], reason
    edit = _edit(pick)
    if settings.answers == "edited" and edit is None:
        return [], "no_edit"
    answer = edit or pick.answers[_top(pick) or 0]
    if fault := _blank(answer) or ("cut" if answer.cut else None):
        return [], fault
    return [ExampleRow(pick.prompt, answer.text, _origin(pick, edits=True))], None


def _left_out(pick: Pick, turns: str, *, tie: bool, both_bad: bool) -> Reason | None:
    """What the verdict and the turn alone decide. `tie`, `both_bad`: leave these out."""
    if pick.verdict in ("skip", "flag"):
        return "skip" if pick.verdict == "skip" else "flag"
    if turns == "last" and not pick.last_turn:
        return "not_last_turn"
    if pick.verdict == "tie" and tie:
        return "tie"
    return "both_bad" if pick.verdict == "both_bad" and both_bad else None


def _origin(pick: Pick, edits: bool) -> Origin:
    if edits and _edit(pick):
        return "edit"
    return pick.verdict if pick.verdict in ("ranked", "both_bad", "tie") else "pick"


def _fault(duel: _Duel, texts: Sequence[Answer]) -> Reason | None:
    """Why its two answers cannot be compared. One that was cut may lose: what there is of it was
    read. It may not win, or nobody learns to end."""
    better, worse = texts[duel.better], texts[duel.worse]
    if blank := _blank(better) or _blank(worse):
        return blank
    if _same(better, worse):
        return "identical"
    tied = duel.strength is None
    return "cut" if better.cut or (tied and worse.cut) else None


def _blank(answer: Answer) -> Reason | None:
    return None if answer.text.strip() else "empty"


def _same(one: Answer, other: Answer) -> bool:
    """Chat templates strip answers, so white space around them makes no difference."""
    return one.text.strip() == other.text.strip()


def _worst(reasons: Sequence[Reason | None]) -> Reason:
    return min((reason for reason in reasons if reason), key=REASONS.index)
