"""Settings come from the file, the environment and the flags, in this order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from store.configuration import BadConfiguration, Values, load


@dataclass(frozen=True)
class Web:
    host: str = "127.0.0.1"
    port: int = 7860
    browser: bool = True
    lease_s: float = 600.0
    level: Literal["info", "debug"] = "info"
    allowed: tuple[str, ...] = ()
    sizes: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class Loop:
    every: int = 100


SECTIONS: dict[str, type] = {"web": Web, "loop": Loop}


def web(
    tmp_path: Path, toml: str = "", env: dict[str, str] | None = None, flags: Values | None = None
) -> Web:
    file = tmp_path / "prefloop.toml"
    file.write_text(toml)
    found = load(SECTIONS, file, env or {}, flags or {})["web"]
    assert isinstance(found, Web)
    return found


def test_nothing_given_means_the_defaults() -> None:
    assert load(SECTIONS, None, {}, {}) == {"web": Web(), "loop": Loop()}


def test_flags_go_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    toml = '[web]\nhost = "file"\nport = 1\nlease_s = 1'
    env = {"PREFLOOP_WEB__HOST": "env", "PREFLOOP_WEB__PORT": "2"}
    found = web(tmp_path, toml, env, {"web": {"host": "flag"}})
    assert (found.host, found.port, found.lease_s) == ("flag", 2, 1.0)


def test_every_type_is_read_from_the_file(tmp_path: Path) -> None:
    toml = (
        '[web]\nhost = "h"\nport = 1\nbrowser = false\nlease_s = 0.5\nlevel = "debug"\n'
        'allowed = ["a", "b"]\nsizes = [2, 3]'
    )
    assert web(tmp_path, toml) == Web("h", 1, False, 0.5, "debug", ("a", "b"), (2, 3))


def test_every_type_is_read_from_the_environment(tmp_path: Path) -> None:
    given = {
        "HOST": "h",
        "PORT": "1",
        "BROWSER": "FALSE",
        "LEASE_S": "0.5",
        "LEVEL": "debug",
        "ALLOWED": "a, b",
        "SIZES": "2,3",
    }
    env = {f"PREFLOOP_WEB__{key}": value for key, value in given.items()}
    assert web(tmp_path, env=env) == Web("h", 1, False, 0.5, "debug", ("a", "b"), (2, 3))


def test_other_variables_are_left_alone(tmp_path: Path) -> None:
    env = {"PATH": "/bin", "PREFLOOP_CACHE": "/tmp", "XPREFLOOP_WEB__PORT": "x"}
    assert web(tmp_path, env=env) == Web()


@pytest.mark.parametrize(
    ("toml", "env", "flags", "said"),
    [
        ("[web]\nprt = 1", {}, {}, "Unknown key web.prt in {file}: choose host, port,"),
        ("[webb]\nport = 1", {}, {}, "Unknown section in webb.port in {file}: choose web, loop."),
        ("port = 1", {}, {}, "port in {file} stands outside a section"),
        ("[web\nport = 1", {}, {}, "{file} is not valid TOML"),
        ("[web]\nport = '1x'", {}, {}, "web.port in {file} must be of type int, not '1x'."),
        ("[web]\nport = 1.5", {}, {}, "web.port in {file} must be of type int, not 1.5."),
        ("[web]\nport = true", {}, {}, "web.port in {file} must be of type int, not True."),
        ("[web]\nbrowser = 1", {}, {}, "web.browser in {file} must be of type bool, not 1."),
        ("[web]\nlease_s = nan", {}, {}, "web.lease_s in {file} must be of type float, not nan."),
        ("[web]\nallowed = 3", {}, {}, "web.allowed in {file} must be a list."),
        ("[web]\nsizes = ['x']", {}, {}, "web.sizes in {file} must be of type int, not 'x'."),
        ("[web]\nlevel = 'loud'", {}, {}, "web.level in {file} must be one of info, debug, not"),
        ("", {"PREFLOOP_WEB__PRT": "1"}, {}, "Unknown key web.prt in the environment: choose"),
        ("", {"PREFLOOP_W__PORT": "1"}, {}, "Unknown section in w.port in the environment"),
        ("", {"PREFLOOP_WEB__PORT": "x"}, {}, "web.port in the environment must be of type int"),
        ("", {"PREFLOOP_WEB__BROWSER": "on"}, {}, "web.browser in the environment must be of"),
        ("", {}, {"loop": {"evry": 1}}, "Unknown key loop.evry in the command: choose every."),
        ("", {}, {"loop": {"every": "x"}}, "loop.every in the command must be of type int"),
    ],
)
def test_a_mistake_is_one_sentence_with_the_key_and_where_it_stands(
    tmp_path: Path, toml: str, env: dict[str, str], flags: Values, said: str
) -> None:
    with pytest.raises(BadConfiguration) as refused:
        web(tmp_path, toml, env, flags)
    assert str(refused.value).startswith(said.format(file=tmp_path / "prefloop.toml"))
    assert "\n" not in str(refused.value)


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="There is no configuration file"):
        load(SECTIONS, tmp_path / "none.toml", {}, {})
    with pytest.raises(BadConfiguration, match="cannot be read"):
        load(SECTIONS, tmp_path, {}, {})
    (tmp_path / "latin.toml").write_bytes(b"# \xfc")
    with pytest.raises(BadConfiguration, match="not valid TOML"):
        load(SECTIONS, tmp_path / "latin.toml", {}, {})
