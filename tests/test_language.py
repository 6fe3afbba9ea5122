"""The catalogues of the pages: complete, alike, and all that the code asks for."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from starlette.requests import Request

from annotate.api_json import CODES
from annotate.desk import DeskConfig
from annotate.language import FALLBACK, LOCALES, catalogue, language_of, languages, translate
from annotate.passwords import REASONS
from annotate.web import HTTP_CODES

ROOT = LOCALES.parents[2]
JS = sorted((ROOT / "annotate" / "static" / "js").glob("*.js"))
PAGES = sorted((ROOT / "annotate" / "static" / "pages").glob("*.html"))
PYTHON = sorted((ROOT / "annotate").glob("*.py"))
HOLE = re.compile(r"\{(\w+)\}")
ERRORS = {"Conflict", "Invalid", "NotFound", "StoreDown", "PrefloopError"}
KEY = r"[a-z][\w-]*(?:\.[\w-]+)+"


def sentences(lang: str) -> dict[str, str]:
    """A catalogue as it is written; a key that stands there twice fails."""
    pairs = json.loads((LOCALES / f"{lang}.json").read_text("utf-8"), object_pairs_hook=list)
    assert len(dict(pairs)) == len(pairs), "a key stands there twice"
    return dict(pairs)


@pytest.mark.parametrize("lang", languages())
def test_catalogues_have_the_same_keys_and_holes(lang: str) -> None:
    english, other = sentences(FALLBACK), sentences(lang)
    assert other.keys() == english.keys()
    for key, sentence in english.items():
        assert set(HOLE.findall(other[key])) == set(HOLE.findall(sentence)), key
        assert other[key].strip() == other[key] != "", key


def asked_for() -> dict[str, str]:
    """Every key that code names in full, with the file that does."""
    asked: dict[str, str] = {}
    for path in [*JS, *PAGES, *PYTHON]:
        source = path.read_text("utf-8")
        found = re.findall(rf"""(?<![\w.])t\(\s*["']({KEY})["']""", source)
        found += re.findall(rf'data-t(?:-\w+)?="({KEY})"', source)
        found += re.findall(rf"""translate\(\w+, ["']({KEY})["']""", source)
        found += re.findall(rf'label: "({KEY})"', source)
        asked |= dict.fromkeys(found, path.name)
    return asked


def test_every_key_that_code_asks_for_is_there() -> None:
    known = sentences(FALLBACK).keys()
    forms = known | {key.rsplit(".", 1)[0] for key in known if key.endswith((".one", ".other"))}
    asked = asked_for()
    assert len(asked) > 100
    missing = {key: where for key, where in asked.items() if key not in forms}
    assert missing == {}


def test_reasons_of_the_default_configuration_are_translated() -> None:
    config = DeskConfig()
    reasons = {*config.reasons, *config.skip_reasons, *config.flag_reasons}
    assert {f"reason.{reason}" for reason in reasons} <= sentences(FALLBACK).keys()


def test_translate_fills_in_values_and_falls_back() -> None:
    assert translate("zh-CN", "progress.of_goal", today=3, goal=80) == "今日 3 / 80"
    assert translate("en", "progress.days", n=1) == "1 day"
    assert translate("en", "progress.days", n=1200) == "1,200 days"
    assert translate("xx", "nav.annotate") == "Annotate"
    assert translate("en", "no.such.key") == "no.such.key"
    assert catalogue("xx") == catalogue("en")


def test_a_key_that_a_language_lacks_is_english(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "en.json").write_text('{"a": "A", "b": "B"}')
    (tmp_path / "de.json").write_text('{"a": "Ah"}')
    monkeypatch.setattr("annotate.language.LOCALES", tmp_path)
    catalogue.cache_clear()
    languages.cache_clear()
    try:
        assert catalogue("de") == {"a": "Ah", "b": "B"}
    finally:
        catalogue.cache_clear()
        languages.cache_clear()


@pytest.mark.parametrize(
    ("cookie", "accept", "expected"),
    [
        ("", "", "en"),
        ("", "de, zh-CN;q=0.8", "zh-CN"),
        ("", "zh-TW,zh;q=0.9", "zh-CN"),
        ("en", "zh-CN", "en"),
        ("no", "fr;q=1", "en"),
    ],
)
def test_the_readers_language(cookie: str, accept: str, expected: str) -> None:
    headers = [
        (b"accept-language", accept.encode()),
        (b"cookie", f"prefloop_lang={cookie}".encode()),
    ]
    request = Request({"type": "http", "headers": headers, "method": "GET", "path": "/"})
    assert language_of(request) == expected


# --- sentences of the server ----------------------------------------------------------------------


def raised() -> list[tuple[str, str, str | None, set[str]]]:
    """Where, key, message when it is a constant, names of the values, of each error with a key."""
    found = []
    for path in sorted(
        each for layer in ("annotate", "store", "train") for each in (ROOT / layer).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ERRORS:
                match node.args:
                    case [message, ast.Constant(str(key))]:
                        said = message.value if isinstance(message, ast.Constant) else None
                        names = {word.arg for word in node.keywords if word.arg}
                        found.append((path.name, key, said, names))
    return found


def test_errors_with_a_key_are_in_the_catalogues() -> None:
    english, found = sentences(FALLBACK), raised()
    assert len(found) > 40
    for where, key, said, names in found:
        sentence = english.get(f"error.{key}")
        assert sentence is not None, f"{key} of {where}"
        assert set(HOLE.findall(sentence)) <= names, f"{key} of {where}"
        assert said in (None, sentence) or said == said.lower(), f"{key} of {where}"  # a fragment


@pytest.mark.parametrize("code", [*HTTP_CODES.values(), *CODES.values(), *REASONS])
def test_every_code_of_an_error_has_a_sentence(code: str) -> None:
    not_for_pages = {"bad_request", "method_not_allowed", "not_signed_in", "too_large"}
    assert code in not_for_pages or f"error.{code}" in sentences(FALLBACK)
