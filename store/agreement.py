"""How much people agree on the pairs that several of them judged."""

from __future__ import annotations

from collections.abc import Mapping

from store.database import Store


def agreement(store: Store) -> float | None:
    """Krippendorff's alpha of people's live picks of pairs: better side, tie or both bad. None
    while no pair has two, or all say the same."""
    return krippendorff_alpha({tuple(row["counts"]): row["units"] for row in store.read(COUNTS)})


def krippendorff_alpha(units: Mapping[tuple[int, ...], int]) -> float | None:
    """For nominal values (Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011).

    `units`: how many things were judged so; the key says how often each value was given, in one
    order of values. 1 is perfect, 0 what chance gives; those that were judged once say nothing.
    None where it is not defined.
    """
    pairable = [(counts, n) for counts, n in units.items() if sum(counts) > 1]
    weighted = ([n * count for count in counts] for counts, n in pairable)
    totals = [sum(each) for each in zip(*weighted, strict=True)]
    given = sum(totals)
    expected = given * given - sum(total * total for total in totals)
    if not expected:
        return None
    observed = sum(
        n * (sum(counts) ** 2 - sum(count * count for count in counts)) / (sum(counts) - 1)
        for counts, n in pairable
    )
    return 1 - (given - 1) * observed / expected


# A reordered pair is the same pair: sides are those of the store, not of the screen.
COUNTS = """
with judged as (
select [
    count(*) filter (preferred = 'a'), count(*) filter (preferred = 'b'),
    count(*) filter (verdict = 'tie'), count(*) filter (verdict = 'both_bad')
] as counts
from judgment_live j join pair p on p.pair_id = j.pair_id
where j.source = 'human' and j.verdict not in ('skip', 'flag') and p.c_text is null
group by j.pair_id having count(*) > 1
)
select counts, count(*) as units from judged group by counts
"""
