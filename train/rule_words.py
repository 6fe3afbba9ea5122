"""The rules of `train/rules.py` in sentences, for a run's config.json and for its page."""

from __future__ import annotations

from train.settings import AnySettings, DpoSettings, KtoSettings, Part, RewardSettings, SftSettings

# `rule_keys` names one of these for each kind of pick; a page has them in its own language.
SENTENCES = {
    "pairs.dpo": "Of two answers the picked one is chosen and the other one is rejected.",
    "pairs.rm": "Of two answers the picked one scores above the other.",
    "pairs.kto": "Of two answers the picked one is good and the other one is bad.",
    "pairs.picked": "The picked answer is imitated.",
    "pairs.edited": "Only edited answers are imitated.",
    "strength.soft": "Slightly, clearly and much are labels of 70, 90 and 95 %; without a strength "
    "a pick counts as clearly.",
    "strength.weight": "Slightly, clearly and much weigh 0.5, 1 and 1.5; without a strength a pick "
    "counts as clearly.",
    "strength.margin": "Slightly, clearly and much ask for margins of 1/3, 2/3 and 1; without a "
    "strength a pick counts as clearly.",
    "strength.ignore": "Strength is not used: every pick counts the same.",
    "ties.drop": "Ties are left out.",
    "ties.soft": "A tie is a label of 50 %.",
    "both_bad.drop": "Picks of both bad are left out.",
    "both_bad.negatives": "Of both bad, every answer is a bad one.",
    "edits.beats": "An edited answer beats the answer that it corrects, clearly; where that one "
    "was cut or is empty, the others too.",
    "edits.replaces": "An edited answer takes the place of the answer that it corrects.",
    "edits.drop": "Edits are not used.",
    "ranked.all": "Of four answers the best beats the other three, and the two in the middle beat "
    "the worst: five comparisons.",
    "ranked.best_worst": "Of four answers the best beats the worst; the other two are not used.",
    "ranked.marks": "Of four answers the best is good and the worst is bad; the other two are not "
    "used.",
    "ranked.best": "Of four answers the best is imitated.",
    "turns.all": "Every turn of a conversation counts.",
    "turns.last": "Of a conversation only the last turn counts.",
    "left_out.compared": "Comparisons with an empty answer, between equal texts, or won by an "
    "answer that was cut at the length limit are left out.",
    "left_out.marked": "Empty answers, good ones that were cut at the length limit, and picks "
    "between equal texts are left out.",
    "left_out.imitated": "Empty answers and those that were cut at the length limit are left out.",
}


def rule_of(part: Part, settings: AnySettings) -> dict[str, str]:
    """One sentence for each kind of pick: pairs, strength, ties, both_bad, edits, ranked, turns,
    left_out."""
    return {kind: SENTENCES[key] for kind, key in rule_keys(part, settings).items()}


def rule_keys(part: Part, settings: AnySettings) -> dict[str, str]:
    """The key in SENTENCES for each kind of pick."""
    names = {**_names(part, settings), "turns": settings.turns}
    return {kind: f"{kind}.{name}" for kind, name in names.items()}


def _names(part: Part, settings: AnySettings) -> dict[str, str]:
    match settings:
        case DpoSettings() | RewardSettings():
            return {
                "pairs": part,
                "strength": settings.strength,
                "ties": settings.ties,
                "both_bad": "drop",
                "edits": "beats" if settings.edits == "use" else "drop",
                "ranked": settings.ranked,
                "left_out": "compared",
            }
        case KtoSettings():
            return {
                "pairs": part,
                "strength": "ignore",
                "ties": "drop",
                "both_bad": settings.both_bad,
                "edits": "replaces" if settings.edits == "use" else "drop",
                "ranked": "marks",
                "left_out": "marked",
            }
        case SftSettings():
            return {
                "pairs": settings.answers,
                "strength": "ignore",
                "ties": "drop",
                "both_bad": "drop",
                "edits": "replaces",
                "ranked": "best",
                "left_out": "imitated",
            }
