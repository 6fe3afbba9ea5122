"""Words are part of the product: every setting and command is documented as it is."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest

from app import Config, cli, read_config
from store.configuration import load
from tests.served_app import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTIONS = get_type_hints(Config)
SETTINGS = [(name, field) for name, kind in SECTIONS.items() for field in fields(kind)]
CONFIGS = sorted((ROOT / "configs").glob("*.toml"))


@pytest.mark.parametrize(
    ("section", "field"), SETTINGS, ids=lambda part: getattr(part, "name", part)
)
def test_setting_is_documented_with_its_default(section: str, field: object) -> None:
    name, default = f"{section}.{field.name}", field.default  # type: ignore[attr-defined]
    rows = [line for line in README.splitlines() if line.startswith("| `")]
    row = next((row for row in rows if f"`{name}`" in row.split("|")[1]), None)
    assert row, f"README's table has no row for {name}"
    values = [default] if not isinstance(default, tuple) else list(default)
    for value in values:
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        assert not shown or f"`{shown}`" in row, f"README's row for {name} does not show {shown}"


def test_readme_and_changelog_name_every_command() -> None:
    commands = {command.name or command.callback.__name__ for command in cli.registered_commands}  # type: ignore[union-attr]
    commands |= {group.name for group in cli.registered_groups}
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for command in commands:
        assert f"`{command}`" in changelog
        assert re.search(rf"(prefloop|app\.py) {command}\b", README), (
            f"README does not show {command}"
        )


def test_ready_configurations_load() -> None:
    assert len(CONFIGS) >= 4
    for file in CONFIGS:
        load(SECTIONS, file, {}, {})
        assert tomllib.loads(file.read_text())["policy"]["model"]


def test_links_of_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_defaults_are_those_of_the_starter_configuration() -> None:
    assert read_config(ROOT / "configs" / "starter.toml", {}).policy == read_config(None, {}).policy


def test_nothing_tracked_names_a_package_host_or_a_large_file() -> None:
    for file in ROOT.glob("requirements/*.txt"):
        assert not re.search(r"https?://|file:|@ ", file.read_text()), file
    assert all(
        path.stat().st_size < 1 << 20 for path in Path(ROOT / "docs").rglob("*") if path.is_file()
    )
