"""Rooms import leftwards only, and the commands that answer at once load neither ortools nor what they do not need."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("models_catalog", "constraints", "solver", "cli")
"""Each may import itself and the rooms before it."""

OWN_MODULE = re.compile(rf"({'|'.join(ROOMS)})(\.\w+)+\.?")
SOLVER_ONLY = {"ortools"}
HEAVY = {"ortools", "pydantic", "rich", "yaml", "numpy", "pandas"}


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


EVERY_MODULE = [path for room in ROOMS for path in modules(room)]


@cache
def imported(path: Path) -> tuple[tuple[str, bool], ...]:
    """(top-level package, whether it is imported when the module is), lazy imports inside functions included.

    A text that names a module of ours (``"solver.synthesis"``) counts: it is what ``import_module`` is given.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    later = {id(node) for scope in ast.walk(tree) if _runs_later(scope) for node in ast.walk(scope)}
    found: list[tuple[str, bool]] = []
    for node in ast.walk(tree):
        at_once = id(node) not in later
        if isinstance(node, ast.Import):
            found += [(alias.name.split(".")[0], at_once) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.append(((node.module or "").split(".")[0], at_once))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and OWN_MODULE.fullmatch(node.value):
            found.append((node.value.split(".")[0], False))
    return tuple(found)


def _runs_later(node: ast.AST) -> bool:
    """A function, or a block for type checkers alone."""
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def test_every_room_is_looked_at() -> None:
    assert all(len(modules(room)) >= 8 for room in ROOMS)
    seen = {package for path in EVERY_MODULE for package, _ in imported(path)}
    assert {*ROOMS, "ortools", "click", "pydantic", "yaml", "rich"} - {"rich"} <= seen


@pytest.mark.parametrize("path", EVERY_MODULE, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_between_rooms_point_one_way(path: Path) -> None:
    allowed = ROOMS[: ROOMS.index(room_of(path)) + 1]
    for package, _ in imported(path):
        assert package not in ROOMS or package in allowed, f"{room_of(path)} must not import {package}"
        assert package not in ("tests", "benchmarks")


def test_ortools_is_known_to_a_few_files_of_the_solver() -> None:
    users = [path for path in EVERY_MODULE if SOLVER_ONLY & {package for package, _ in imported(path)}]
    assert {room_of(path) for path in users} == {"solver"}
    assert len(users) <= 10, [path.name for path in users]


@pytest.mark.parametrize("room", ["models_catalog", "constraints"])
def test_facts_and_rules_import_no_library_when_they_are_imported(room: str) -> None:
    """Only the standard library and the rooms: yaml and pydantic wait inside functions or in modules of their own."""
    standard = sys.stdlib_module_names
    for path in modules(room):
        at_once = {package for package, now in imported(path) if now}
        others = at_once - set(standard) - set(ROOMS)
        assert others <= {"pydantic", "yaml"}, f"{path.name}: {others}"
        assert room != "constraints" or not others, f"{path.name}: {others}"


# -- what a command loads


def modules_loaded_by(*arguments: str) -> set[str]:
    """Modules that a whole command loads, by Python's own account of its imports."""
    command = [sys.executable, "-X", "importtime", "-m", "cli.main", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, 1), done.stderr[-2000:]
    assert done.stdout.strip()
    lines = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {line.rsplit("|", 1)[1].strip() for line in lines}


def loaded_by(*arguments: str) -> set[str]:
    """Top-level packages of :func:`modules_loaded_by`."""
    return {name.split(".")[0] for name in modules_loaded_by(*arguments)}


LEGAL = (
    "check",
    "llama-3.1-70b",
    "--gpus",
    "64",
    "--gpu",
    "h100",
    "--global-batch-size",
    "128",
    "tp=8",
    "pp=4",
    "sp=true",
)
BATCH = '{"model": "llama-3.1-8b", "gpus": 8, "gpu": "h100", "layout": {"tp": 3}}\n'


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("--version",), *((name, "--help") for name in ("solve", "check", "counts", "zoo"))],
    ids=" ".join,
)
def test_help_loads_no_library_but_click(arguments: tuple[str, ...]) -> None:
    loaded = loaded_by(*arguments)
    assert "click" in loaded
    assert not loaded & HEAVY


def test_help_does_not_read_the_rooms_behind_it() -> None:
    """Errors and the package itself aside: no rule, no formula, no catalog."""
    names = modules_loaded_by("--help")
    ours = {name for name in names if name.split(".")[0] in ROOMS[:-1]}
    assert ours <= {"constraints", "constraints.errors", "models_catalog", "models_catalog.errors"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("rules",),
        ("rules", "attention.heads-tp"),
        ("rules", "--format", "json"),
        ("catalog", "models"),
        ("catalog", "gpus"),
        ("catalog", "models", "llama-3.1-8b"),
        ("zoo", "examples/zoo/catalog.yaml", "--dry-run"),
    ],
    ids=" ".join,
)
def test_looking_things_up_never_loads_ortools(arguments: tuple[str, ...]) -> None:
    assert not loaded_by(*arguments) & {"ortools", "numpy", "pandas", "pydantic"}


def test_the_verdict_on_a_legal_layout_never_loads_ortools() -> None:
    assert not loaded_by(*LEGAL) & {"ortools", "numpy", "pandas", "pydantic"}
    assert not loaded_by(*LEGAL, "--format", "json") & {"ortools", "numpy", "pandas", "pydantic"}


def test_a_batch_of_verdicts_never_loads_ortools_illegal_ones_included(tmp_path: Path) -> None:
    file = tmp_path / "layouts.jsonl"
    file.write_text(BATCH * 3)
    assert not loaded_by("check", "--batch", str(file)) & {"ortools", "numpy", "pandas"}


@pytest.mark.parametrize("room", ROOMS)
def test_importing_a_room_loads_no_library(room: str) -> None:
    code = f"import sys, {room}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert not set(done.stdout.split()) & HEAVY


def test_solving_loads_ortools() -> None:
    """The account of imports would show it: were it blind, the tests above could not fail."""
    solved = loaded_by("solve", "llama-3.2-1b", "--gpus", "2", "--gpu", "h100")
    assert {"ortools", "solver", "constraints", "models_catalog"} <= solved
