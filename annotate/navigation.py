"""The pages of the site, and who may open them: what every top bar and menu lists."""

from __future__ import annotations

from dataclasses import dataclass

from store.rows import ROLES, Role


@dataclass(frozen=True)
class Page:
    name: str  # `nav.` and this is the key of its title
    path: str  # a part of another page has a #
    role: Role  # from which on it can be opened


PAGES = (
    Page("annotate", "/annotate", "annotator"),
    Page("picks", "/annotate#picks", "annotator"),
    Page("guidelines", "/annotate#guidelines", "annotator"),
    Page("research", "/research", "researcher"),
    Page("train", "/train", "researcher"),
    Page("pools", "/pools", "researcher"),
    Page("people", "/people", "admin"),
)


def pages_for(role: Role) -> list[Page]:
    return [page for page in PAGES if ROLES.index(role) >= ROLES.index(page.role)]
