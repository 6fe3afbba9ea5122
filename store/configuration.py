"""Configuration: a TOML file, then PREFLOOP_SECTION__KEY variables, then flags. Unknown keys fail.

The settings themselves are frozen dataclasses beside the code that they steer; this only fills
them in.
"""

from __future__ import annotations

import contextlib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from store.rows import PrefloopError

PREFIX = "PREFLOOP_"
Values = dict[str, dict[str, Any]]  # section: {key: value}


class BadConfiguration(PrefloopError):
    """A key is unknown or a value has the wrong type."""


def load(
    sections: Mapping[str, type], file: Path | None, env: Mapping[str, str], flags: Values
) -> dict[str, Any]:
    """One instance of each section's dataclass.

    Raises BadConfiguration naming the key and where it stands.
    """
    found: dict[str, dict[str, Any]] = {name: {} for name in sections}
    for origin, values in (
        (str(file), _from_file(file)),
        ("the environment", _from_env(env)),
        ("the command", flags),
    ):
        for section, entries in values.items():
            for key, value in entries.items():
                where = f"{section}.{key} in {origin}"
                checked = _checked(sections, section, key, value, where)
                found.setdefault(section, {})[key] = checked
    return {name: kind(**found[name]) for name, kind in sections.items()}


def _from_file(file: Path | None) -> Values:
    if file is None:
        return {}
    try:
        parsed = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadConfiguration(f"There is no configuration file {file}.") from None
    except OSError as error:
        raise BadConfiguration(f"{file} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfiguration(f"{file} is not valid TOML: {error}.") from None
    for section, entries in parsed.items():
        if not isinstance(entries, dict):
            raise BadConfiguration(
                f"{section} in {file} stands outside a section; write it below [policy] or another."
            )
    return parsed


def _from_env(env: Mapping[str, str]) -> Values:
    values: Values = {}
    for name, value in env.items():
        section, separator, key = name.removeprefix(PREFIX).partition("__")
        if name.startswith(PREFIX) and separator:
            values.setdefault(section.lower(), {})[key.lower()] = value
    return values


def _checked(sections: Mapping[str, type], section: str, key: str, value: Any, where: str) -> Any:
    if section not in sections:
        raise BadConfiguration(f"Unknown section in {where}: choose {', '.join(sections)}.")
    names = [field.name for field in fields(sections[section])]
    if key not in names:
        raise BadConfiguration(f"Unknown key {where}: choose {', '.join(names)}.")
    return _typed(get_type_hints(sections[section])[key], value, where)


def _typed(kind: Any, value: Any, where: str) -> Any:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise BadConfiguration(
                f"{where} must be one of {', '.join(map(str, get_args(kind)))}, not {value!r}."
            )
        return value
    if kind in (int, float, bool, str):
        return _scalar(kind, value, where)
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list):
        raise BadConfiguration(f"{where} must be a list.")
    inner = get_args(kind)[0]
    return tuple(
        _typed(inner, item.strip() if isinstance(item, str) else item, where) for item in items
    )


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if isinstance(value, str) and kind is bool and value.lower() in ("true", "1", "false", "0"):
        return value.lower() in ("true", "1")
    if isinstance(value, str) and kind in (int, float):
        with contextlib.suppress(ValueError):  # said below, with the key
            value = kind(value)
    fits = type(value) is kind or (kind is float and type(value) is int)
    if fits and (kind is not float or math.isfinite(value)):
        return kind(value)
    raise BadConfiguration(f"{where} must be of type {kind.__name__}, not {value!r}.")
