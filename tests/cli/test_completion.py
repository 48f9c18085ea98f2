"""What the shell completes, and that it costs no solver."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from models_catalog.loader import gpu_names, model_names
from tests.cli.running import run


def completed(line: str) -> list[str]:
    """The words that bash would be offered after ``line`` (a space at its end: a new word)."""
    from click.shell_completion import BashComplete

    from cli.main import cli

    words = line.split()
    incomplete = "" if line.endswith(" ") or not words else words.pop()
    complete = BashComplete(cli, {}, "meshwright", "_MESHWRIGHT_COMPLETE")
    return [item.value for item in complete.get_completions(words, incomplete)]


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("", ["solve", "check", "catalog", "rules", "completion"]),
        ("so", ["solve"]),
        ("solve ", model_names()),
        ("solve llama-3.1", ["llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b"]),
        ("check deepseek-v", ["deepseek-v3"]),
        ("solve x --gpu ", gpu_names()),
        ("check x --gpu h", ["h100", "h200"]),
        ("solve x --precision fp8", ["fp8_cs", "fp8_mx"]),
        ("solve x --task ", ["pretrain", "sft", "lora"]),
        ("solve x --objective ", ["communication", "data-parallel"]),
        ("solve x --relax topology", ["topology.tp-in-domain"]),
        ("solve x --pin t", ["tp="]),
        ("solve x --format b", ["bridge", "bridge-python"]),
        ("rules attention.h", ["attention.heads-tp"]),
    ],
)
def test_words_are_completed(line, some):
    found = completed(line)
    assert set(some) <= set(found)
    last = "" if line.endswith(" ") or not line else line.split()[-1]
    assert all(word.startswith(last) for word in found)


def test_only_what_can_be_relaxed_is_offered():
    assert "mesh.world-dense" not in completed("solve x --relax ")
    assert "mesh.world-dense" in completed("rules mesh")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_are_printed(shell):
    outcome = run("completion", shell)
    assert (outcome.code, outcome.err) == (0, "")
    assert "_MESHWRIGHT_COMPLETE" in outcome.out


def test_completion_imports_no_solver_and_reads_no_entry():
    code = (
        "import sys; from cli.main import main\n"
        "try: main()\n"
        "finally: print([m for m in ('ortools', 'pydantic', 'yaml') if m in sys.modules])"
    )
    env = {
        **os.environ,
        "_MESHWRIGHT_COMPLETE": "bash_complete",
        "COMP_WORDS": "meshwright solve llama-3.1-8",
        "COMP_CWORD": "2",
    }
    found = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert found.stdout == "plain,llama-3.1-8b\n[]\n"
