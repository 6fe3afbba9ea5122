"""The real command in child processes: what goes wrong ends with one sentence and its exit code."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from annotate.commands import one_time_link
from store.database import Store

ROOT = Path(__file__).parent.parent


def prefloop(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "app.py", *arguments],
        check=False,
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=120,
    )


def sentence(done: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """The one line on standard error of a command that failed."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("prefloop: "), done.stderr
    return lines[0].removeprefix("prefloop: ")


def test_an_unknown_key_in_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "prefloop.toml"
    config.write_text("[loop]\nevery_pick = 5\n")
    said = sentence(prefloop("users", "list", "--config", str(config)))
    assert said.startswith(f"Unknown key loop.every_pick in {config}: choose every_picks,")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PREFLOOP_APP__PORT", "many", "app.port in the environment must be of type int"),
        ("PREFLOOP_SAMPLER__PARALLEL", "0", "sampler.parallel must be at least 1, not 0."),
    ],
)
def test_a_bad_value_in_the_environment(name: str, value: str, said: str, tmp_path: Path) -> None:
    done = prefloop("serve", "--data-dir", str(tmp_path / "data"), **{name: value})
    assert said in sentence(done)
    assert not (tmp_path / "data").exists()


def test_a_port_that_another_program_listens_on(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = sentence(prefloop("serve", "--data-dir", str(tmp_path / "data"), "--port", port))
    assert said == (
        f"Cannot listen on 127.0.0.1:{port} (Address already in use). "
        "Stop the program that uses it, or choose another --host or --port."
    )
    assert "Cannot listen on" in sentence(prefloop("serve", "--port", "99999"))
    assert not (tmp_path / "data").exists()


def test_a_data_directory_that_another_process_uses(tmp_path: Path) -> None:
    with Store.open(tmp_path / "data"):
        said = sentence(prefloop("users", "list", "--data-dir", str(tmp_path / "data")))
    assert said == (
        f"Another process uses the data directory {tmp_path}/data. "
        "Stop it, or choose another --data-dir."
    )


def test_a_data_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    said = sentence(prefloop("policies", "list", "--data-dir", str(tmp_path / "data")))
    assert said.startswith(f"The data directory {tmp_path}/data cannot be used (")


def test_models_that_cannot_be_served(tmp_path: Path) -> None:
    fake = tmp_path / "fake"
    fake.mkdir()
    (fake / "config.json").write_text("{}")
    (fake / "chat_template.jinja").write_text("{{ messages }}")
    (fake / "model.safetensors").write_bytes(b"\x10\x00")
    for model, expected in (
        (str(tmp_path / "none"), f"There is no model folder {tmp_path}/none."),
        (str(fake), "model.safetensors cannot be read"),
    ):
        flags = ("--data-dir", str(tmp_path / "data"), "--port", "0", "--no-browser")
        said = sentence(prefloop("serve", *flags, "--model", model))
        assert expected in said


def test_a_prompts_file_with_broken_lines(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    good = json.dumps({"prompt": "Why?"})
    file.write_text(f'{good}\n{{"prompt": \n{good}\n[1]\n')
    done = prefloop("import", "prompts", str(file), "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 1 and done.stdout == ""
    first, *listed = done.stderr.splitlines()
    assert first.startswith("prefloop: prompts.jsonl: 2 broken line(s), nothing was imported.")
    assert [line.split(":")[0].strip() for line in listed] == ["line 2", "line 4"]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "ppo"), "not one of"),
        (("users", "add"), "add needs the name of a user"),
        (("users", "role", "ann"), "users role NAME ROLE"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], said: str) -> None:
    done = prefloop(*arguments)
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr


def test_doctor_on_an_empty_folder(tmp_path: Path) -> None:
    done = prefloop("doctor", "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert len(lines) == 6 and all(line.startswith("ok    ") for line in lines)
    assert lines[-2:] == ["ok    No app runs on this data directory", "ok    No data yet"]
    assert not (tmp_path / "data").exists()


def test_a_dry_run_needs_no_store(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("Why do bees dance?\n\nWho made this?\n")
    done = prefloop("import", "prompts", str(file), "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "2 prompts can be imported. Nothing was stored.\n"


def test_a_sign_in_link_never_leads_to_an_app_that_has_ended() -> None:
    path = "/sign-in?token=secret"
    assert one_time_link("http://127.0.0.1:7860", path, temporary=False) == (
        "http://127.0.0.1:7860/sign-in?token=secret"
    )
    told = one_time_link("http://127.0.0.1:41234", path, temporary=True)
    assert "41234" not in told
    assert told.startswith("prefloop does not run now. Start it") and told.endswith(path)
