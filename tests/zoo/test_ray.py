"""The same jobs on a Ray cluster of several node processes, of which one is killed while they run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.zoo.test_command import ZOO, read
from tests.zoo.test_kill import ROOT
from tests.zoo.workloads import ZOO as FREE

pytestmark = pytest.mark.heavy
ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'meshwright[ray]'")

LONGEST = 300.0
SMALL = "models: llama-3.1-8b\nclusters: {gpu: h100, gpus: [8, 16]}\n"


def meshwright(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.main", "zoo", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST, check=False)


def test_ray_comes_to_what_the_pool_comes_to(tmp_path: Path) -> None:
    path = tmp_path / "zoo.yaml"
    path.write_text(ZOO)
    assert meshwright(str(path), "--out", str(tmp_path / "pool"), "--jobs", "2").returncode == 0
    done = meshwright(str(path), "--out", str(tmp_path / "ray"), "--ray", "local")
    assert (done.returncode, done.stderr) == (0, ""), done
    assert read(tmp_path / "ray") == read(tmp_path / "pool")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "cannot be reached: Connection refused"),
        ("auto", "cannot be reached: Could not find any running Ray instance"),
        ("nowhere", "must be auto, local or HOST:PORT"),
        ("127.0.0.1:99999999", "cannot be reached"),
    ],
)
def test_a_cluster_that_is_not_there(tmp_path: Path, address: str, message: str) -> None:
    path = tmp_path / "zoo.yaml"
    path.write_text(ZOO)
    done = meshwright(str(path), "--out", str(tmp_path / "out"), "--ray", address)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def on_cluster(tmp_path: Path, *words: str, zoo: str = FREE) -> dict[str, Any]:
    """What ``on_ray.py`` prints: a process of its own, so that warnings and threads of Ray stay out of the tests'."""
    (tmp_path / "zoo.yaml").write_text(zoo)
    done = subprocess.run(
        [sys.executable, "-m", "tests.zoo.on_ray", str(tmp_path / "zoo.yaml"), str(tmp_path / "out"), *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_a_node_that_dies_loses_nothing(tmp_path: Path) -> None:
    told = on_cluster(tmp_path, "--kill-a-node")
    assert told["nodes_before"] == 3 and told["nodes_after"] == 2
    assert (told["code"], told["failures"], told["nodes_used"]) == (0, [], 3)
    undisturbed = tmp_path / "undisturbed"
    command = [sys.executable, "-m", "tests.zoo.driver", str(tmp_path / "zoo.yaml"), str(undisturbed)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=LONGEST)
    assert read(tmp_path / "out") == read(undisturbed)
    assert told["most_outstanding"] <= told["capacity"]


def test_what_loses_its_worker_on_ray_is_reported(tmp_path: Path) -> None:
    told = on_cluster(tmp_path, "--work", "dies", zoo=SMALL)
    assert told["code"] == 3
    assert set(told["failures"]) == {"its worker died, 2 times"}


def test_what_hangs_on_ray_is_stopped(tmp_path: Path) -> None:
    told = on_cluster(tmp_path, "--work", "hangs", "--hang-after", "2", zoo=SMALL)
    assert told["code"] == 3
    assert set(told["failures"]) == {"hung: stopped after 2 s"}
