"""The one JSON parser for files and requests that people send."""

from __future__ import annotations

import json
from typing import Any

from store.rows import Invalid, is_text

DEEPEST = 32


def loads(text: str | bytes) -> Any:
    """Parse JSON; refuse NaN, Infinity, duplicate keys, lone surrogates and deep nesting.

    Raises Invalid.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, object_pairs_hook=_unique)
    except RecursionError:
        raise Invalid("the JSON is nested too deeply") from None
    except UnicodeDecodeError:
        raise Invalid("the text is not UTF-8") from None
    except ValueError as error:
        raise Invalid(f"not valid JSON ({error})") from None
    _check(value, DEEPEST)
    return value


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _check(value: Any, depth: int) -> None:
    if depth < 0:
        raise Invalid("the JSON is nested too deeply")
    if isinstance(value, str) and not is_text(value):
        raise Invalid("a text holds half a surrogate pair")
    if isinstance(value, dict):
        for key, inner in value.items():
            _check(key, depth)
            _check(inner, depth - 1)
    elif isinstance(value, list):
        for inner in value:
            _check(inner, depth - 1)
