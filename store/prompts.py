"""The prompt pool."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from store.database import Store, Tx
from store.ids import uuid7
from store.pools import Pool
from store.rows import NOT_SAMPLED, Invalid, Message, utc_now

LONGEST = 100_000  # characters of one message


@dataclass(frozen=True)
class Prompt:
    prompt_id: str
    messages: list[Message]
    tags: list[str]


@dataclass(frozen=True)
class NewPrompt:
    messages: list[Message]
    tags: tuple[str, ...] = ()


def add(store: Store, new: Iterable[NewPrompt], source: str) -> tuple[int, int]:
    """All in one transaction. Returns how many were added and how many were there already."""
    prompts = list(new)

    def work(tx: Tx) -> int:
        ids, added = insert(tx, prompts, source)
        return added + _to_pool(tx, ids, source)

    added = store.write(work)
    return added, len(prompts) - added


def insert(tx: Tx, new: Sequence[NewPrompt], source: str) -> tuple[list[str], int]:
    """The id of each prompt, and how many are new. A prompt is known by its messages."""
    keys = [content_hash(prompt.messages) for prompt in new]
    found = tx.all(
        "select content_hash, prompt_id from prompt where content_hash in (select unnest($keys))",
        {"keys": list(set(keys))},
    )
    ids = {row["content_hash"]: row["prompt_id"] for row in found}
    rows = []
    for key, prompt in zip(keys, new, strict=True):
        if key not in ids:
            rows.append(_row(tx, key, prompt, source))
            ids[key] = rows[-1]["prompt_id"]
    tx.insert_all("prompt", rows)
    return [ids[key] for key in keys], len(rows)


def _row(tx: Tx, key: str, prompt: NewPrompt, source: str) -> dict[str, Any]:
    return {
        "prompt_id": uuid7(),
        "seq": tx.next_seq(),
        "messages": json.dumps(prompt.messages, ensure_ascii=False),
        "tags": list(prompt.tags),
        "source": source,
        "content_hash": key,
        "created": utc_now(),
    }


def _to_pool(tx: Tx, ids: list[str], source: str) -> int:
    """Prompts that came with preferences or a conversation are not sampled until somebody imports
    them as prompts."""
    moved = tx.all(
        "update prompt set source = $source where list_contains($not_sampled, source) "
        "and prompt_id in (select unnest($ids)) returning *",
        {"source": source, "not_sampled": list(NOT_SAMPLED), "ids": ids},
    )
    for row in moved:
        tx.also_journal("prompt", row)
    return len(moved)


def search(store: Store, tag: str | None, limit: int) -> list[Prompt]:
    rows = store.read(
        """select * from prompt where $tag is null or list_contains(tags, $tag)
           order by seq limit $limit""",
        {"tag": tag, "limit": limit},
    )
    return [_prompt(row) for row in rows]


def count(store: Store) -> int:
    sql = "select count(*) as n from prompt where not list_contains($not_sampled, source)"
    row = store.read_one(sql, {"not_sampled": list(NOT_SAMPLED)})
    return row["n"] if row else 0


def least_sampled(
    store: Store, policy_id: str, pool: Pool | None, limit: int, without: Sequence[str] = ()
) -> list[Prompt]:
    """Prompts with the fewest pairs of this policy first, in random order among equals.

    `pool` None: of all pools. `without`: prompt ids to leave out.
    """
    values = {
        "policy": policy_id,
        "not_sampled": list(NOT_SAMPLED),
        "pool": pool.pool_id if pool else None,
        "limit": limit,
        "without": list(without),
    }
    return [_prompt(row) for row in store.read(LEAST_SAMPLED, values)]


def pool_sizes(store: Store) -> dict[str, int]:
    """Prompts of each pool, by pool id; those of a resting pool as if it were active."""
    rows = store.read(POOL_SIZES, {"not_sampled": list(NOT_SAMPLED)})
    return {row["pool_id"]: row["n"] for row in rows}


LEAST_SAMPLED = """
select t.* from prompt t
left join (select prompt_id, count(*) as n from pair where a_policy_id = $policy
           group by prompt_id) c on c.prompt_id = t.prompt_id
where not list_contains($not_sampled, t.source)
  and not list_contains($without::varchar[], t.prompt_id)
  and ($pool::varchar is null or exists (
      select 1 from pool_tags l where l.pool_id = $pool
      and (list_has_any(t.tags, l.tags) or l.rest and not list_has_any(t.tags, l.taken))))
order by coalesce(c.n, 0), random() limit $limit
"""
POOL_SIZES = """
select l.pool_id, count(t.prompt_id) as n from pool_tags l
left join prompt t on not list_contains($not_sampled, t.source)
  and (list_has_any(t.tags, l.tags) or l.rest and not list_has_any(t.tags, l.taken))
group by l.pool_id
"""


def checked_messages(value: Any) -> list[Message]:
    """`value` as a list of chat messages that ends with a user turn. Raises Invalid."""
    if not isinstance(value, list) or not value:
        raise Invalid("messages must be a list of {role, content}")
    messages: list[Message] = []
    for turn in value:
        if not isinstance(turn, dict) or not isinstance(turn.get("content"), str):
            raise Invalid("each message needs a role and a content text")
        if turn.get("role") not in ("system", "user", "assistant"):
            raise Invalid("the role of a message is system, user or assistant")
        if not turn["content"].strip():
            raise Invalid("a message is empty", "message_empty")
        if len(turn["content"]) > LONGEST:
            raise Invalid(
                f"a message is longer than {LONGEST:,} characters", "message_long", most=LONGEST
            )
        messages.append({"role": turn["role"], "content": turn["content"]})
    if messages[-1]["role"] != "user":
        raise Invalid("the last message must be the user's")
    return messages


def content_hash(messages: Sequence[Message]) -> str:
    canonical = json.dumps([[m["role"], m["content"]] for m in messages], ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _prompt(row: dict[str, Any]) -> Prompt:
    return Prompt(row["prompt_id"], json.loads(row["messages"]), row["tags"])
