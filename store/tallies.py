"""How much of what researchers set up is in use: prompts by tag, picks by guidelines, practice."""

from __future__ import annotations

from dataclasses import dataclass

from store.database import Store


@dataclass(frozen=True)
class PracticeTally:
    answered: int
    correct: int


def prompts_by_tag(store: Store) -> dict[str, int]:
    """Prompts of the pool that carry each tag, by tag."""
    return {row["tag"]: row["n"] for row in store.read(TAGS)}


def picks_by_guidelines(store: Store) -> dict[int, int]:
    """Live picks made under each version; skips and flags left out."""
    return {row["version"]: row["n"] for row in store.read(PICKS)}


def practice_answers(store: Store) -> dict[str, PracticeTally]:
    """By practice id; items that nobody answered are missing."""
    return {
        row["practice_id"]: PracticeTally(row["answered"], row["correct"])
        for row in store.read(ANSWERS)
    }


TAGS = """
select tag, count(*) as n
from (select unnest(tags) as tag from prompt where source not in ('preferences', 'conversation'))
group by tag order by tag
"""
PICKS = """
select guidelines_version as version, count(*) as n from judgment_live
where guidelines_version is not null and verdict not in ('skip', 'flag')
group by guidelines_version
"""
ANSWERS = """
select practice_id, count(*) as answered, count(*) filter (correct) as correct
from practice_answer group by practice_id
"""
