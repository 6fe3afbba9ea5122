"""Write picks in the layouts that trainers read: JSON lines of fixed key order.

The same picks give the same bytes.

trl                  {"prompt", "chosen", "rejected"} as text, several turns as HH-RLHF writes them
trl-conversational   the same three as lists of messages: the layout to prefer for chat models
jsonl                every live judgment with everything that is stored about it
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from store.database import Store
from store.rows import Invalid, Message

FORMATS = ("trl", "trl-conversational", "jsonl")
FILTERS = ("source", "tag", "user", "policy", "verdict")


@dataclass(frozen=True)
class Selection:
    """Which picks to export; simulated ones only with `source=all` or `source=simulated`."""

    since: datetime | None = None
    source: str | None = None
    tag: str | None = None
    user: str | None = None
    policy: str | None = None
    verdict: str | None = None

    @property
    def sources(self) -> list[str]:
        if self.source is None:
            return ["human", "import"]
        return ["human", "simulated", "import"] if self.source == "all" else [self.source]


def select(since: datetime | None = None, where: str | None = None) -> Selection:
    """`where` is `key=value,key=value` with the keys of FILTERS. Raises Invalid."""
    found: dict[str, str] = {}
    for part in filter(None, (where or "").split(",")):
        key, equals, value = part.strip().partition("=")
        if key not in FILTERS or not equals or not value:
            raise Invalid(
                f"Cannot read the filter {part!r}: write key=value with {', '.join(FILTERS)}."
            )
        found[key] = value
    if found.get("source", "all") not in ("human", "simulated", "import", "all"):
        raise Invalid("source is human, simulated, import or all.")
    return Selection(since=since, **found)


def rows(store: Store, format_: str, selection: Selection) -> Iterator[dict[str, Any]]:
    """Rows in the order of the picks. Raises Invalid for an unknown format."""
    if format_ not in FORMATS:
        raise Invalid(f"Unknown export format {format_!r}: choose {', '.join(FORMATS)}.")
    values = {
        "since": selection.since,
        "sources": selection.sources,
        "tag": selection.tag,
        "user": selection.user,
        "policy": selection.policy,
        "verdict": selection.verdict,
    }
    if format_ == "jsonl":
        return (_everything(row) for row in store.read(EVERYTHING + WHERE, values))
    shape = _text_row if format_ == "trl" else _message_row
    return (shape(row) for row in store.read(PREFERENCES + WHERE, values))


def lines(exported: Iterator[dict[str, Any]]) -> Iterator[str]:
    for row in exported:
        yield json.dumps(row, ensure_ascii=False) + "\n"


WHERE = """
where ($since is null or j.created >= $since) and list_contains($sources, j.source)
  and ($tag is null or list_contains(j.tags, $tag)) and ($user is null or u.name = $user)
  and ($policy is null or j.policy_id = $policy) and ($verdict is null or j.verdict = $verdict)
order by j.seq, j.comparison
"""
PREFERENCES = """
select j.* from (select * from preference where chosen <> rejected) j
join app_user u on u.user_id = j.user_id
"""
SIDES = "abcd"  # c and d of sets of four only
SIDE_FIELDS = (
    "text",
    "token_ids",
    "logprob_sum",
    "logprob_count",
    "finish_reason",
    "policy_id",
    "seed",
    "sampling",
)
EVERYTHING = """
select j.*, u.name as annotator from (
    select j.*, p.* exclude (pair_id, seq, source, created), t.messages, t.tags,
        p.a_policy_id as policy_id, 0 as comparison
    from judgment_live j
    join pair p on p.pair_id = j.pair_id
    join prompt t on t.prompt_id = p.prompt_id
) j join app_user u on u.user_id = j.user_id
"""


def _text_row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "prompt": as_text(json.loads(row["messages"])),
        "chosen": row["chosen"],
        "rejected": row["rejected"],
    }


def _message_row(row: dict[str, Any]) -> dict[str, Any]:
    chosen, rejected = (
        [{"role": "assistant", "content": row[key]}] for key in ("chosen", "rejected")
    )
    return {"prompt": json.loads(row["messages"]), "chosen": chosen, "rejected": rejected}


def as_text(messages: list[Message]) -> str:
    if len(messages) == 1:
        return messages[0]["content"]
    names = {"user": "Human", "assistant": "Assistant", "system": "System"}
    return "".join(f"\n\n{names[m['role']]}: {m['content']}" for m in messages) + "\n\nAssistant:"


def _everything(row: dict[str, Any]) -> dict[str, Any]:
    choice = row["preferred"] or row["verdict"]
    return {
        "id": row["judgment_id"],
        "pair_id": row["pair_id"],
        "prompt_id": row["prompt_id"],
        "seq": row["seq"],
        "prompt": json.loads(row["messages"]),
        "tags": row["tags"],
        "prompt_token_ids": row["prompt_token_ids"],
        **{side: _side(row, side) for side in SIDES},
        "choice": choice,
        "verdict": row["verdict"],
        "strength": row["strength"],
        "best": row["best"],
        "worst": row["worst"],
        "shown_left": row["left_side"],
        "shown_order": row["shown_order"],
        "annotator": row["annotator"],
        "source": row["source"],
        "ms_spent": row["ms_spent"],
        "created_at": row["created"].isoformat() + "Z",
        "edit": row["edited_text"],
        "reasons": row["reasons"],
        "comment": row["comment"],
        "guidelines_version": row["guidelines_version"],
        "conversation_id": row["conversation_id"],
        "turn": row["turn"],
    }


def _side(row: dict[str, Any], side: str) -> dict[str, Any] | None:
    if row[f"{side}_text"] is None:
        return None
    values = {name: row[f"{side}_{name}"] for name in SIDE_FIELDS}
    return values | {"sampling": json.loads(values["sampling"] or "{}")}
