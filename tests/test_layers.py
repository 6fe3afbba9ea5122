"""Lines that hold the structure: who imports whom, what the app process never loads, how SQL is
written."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("store", "train", "annotate")  # each may import those before it
HEAVY = ("torch", "transformers", "trl", "peft", "bitsandbytes", "vllm", "trackio", "ray")
SCRIPTS = (
    *("train.sft", "train.reward", "train.dpo", "train.kto", "train.score", "train.on_ray"),
    *("train.policy.identity", "train.child"),
)
SOURCES = [ROOT / "app.py", *(path for layer in LAYERS for path in (ROOT / layer).glob("**/*.py"))]
NAMES_TABLES = ("store/database.py", "store/opening.py")
STATEMENT = re.compile(r"\s*(select|insert|update|delete|copy|attach|detach|create|drop|alter)\s")
SQL_CALLS = {"execute", "executemany", "read", "read_one", "all", "one", "sql"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_go_down_only(layer: str) -> None:
    above = {*LAYERS[LAYERS.index(layer) + 1 :], "app", "tests", "benchmarks"}
    for path in (ROOT / layer).glob("**/*.py"):
        imported = {name.partition(".")[0] for name in imported_modules(path)}
        assert not imported & above, f"{name_of(path)} imports {imported & above}"


def test_the_store_needs_only_duckdb() -> None:
    for path in (ROOT / "store").glob("**/*.py"):
        others = {name.partition(".")[0] for name in imported_modules(path)}
        others -= {*sys.stdlib_module_names, "store", "duckdb"}
        assert not others, f"{name_of(path)} imports {others}"


def test_the_app_process_loads_no_training_or_serving_library() -> None:
    probe = (
        "import sys, app, annotate.api, annotate.commands, annotate.doctor, annotate.web\n"
        f"print(*[name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_training_script_reaches_no_database(script: str) -> None:
    waiting, seen = [script], set()
    while waiting:
        module = waiting.pop()
        path = ROOT / (module.replace(".", "/") + ".py")
        if module in seen or not path.is_file():
            continue
        seen.add(module)
        waiting += imported_modules(path)
    assert script in seen
    assert not seen & {"store.database", "store.snapshots", "annotate.desk"}


def writes_sql(node: ast.AST) -> bool:
    """An f-string that begins as a statement does, or is handed to the database."""
    if isinstance(node, ast.JoinedStr):
        first = node.values[0]
        return isinstance(first, ast.Constant) and bool(STATEMENT.match(str(first.value)))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in SQL_CALLS and any(isinstance(a, ast.JoinedStr) for a in node.args)
    return False


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_sql_is_written_as_text(path: Path) -> None:
    """Values are parameters. Names of tables cannot be, so two files put in names of their own."""
    for node in ast.walk(ast.parse(path.read_text())):
        where = f"{name_of(path)}:{getattr(node, 'lineno', 0)}"
        if name_of(path) not in NAMES_TABLES:
            assert not writes_sql(node), f"{where} builds SQL with an f-string"
        elif isinstance(node, ast.JoinedStr) and writes_sql(node):
            put_in = [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
            for value in put_in:
                assert isinstance(value, ast.Name) or "join(columns)" in ast.unparse(value), where


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_shell_and_no_code_of_models(path: Path) -> None:
    text = path.read_text()
    assert "trust_remote_code" not in text
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        where = f"{name_of(path)}:{node.lineno}"
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        shell = [keyword for keyword in node.keywords if keyword.arg == "shell"]
        assert not shell and name != "system", f"{where} starts a shell"
