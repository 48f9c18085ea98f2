"""The jobs of a zoo: which there are, in which order, and names that stay inside DIR on every file system."""

from __future__ import annotations

import re
import tracemalloc
from itertools import islice
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from solver.request import Request
from solver.resolution import resolve
from solver.zoo.jobs import Job, Jobs
from solver.zoo.names import label, unique_labels
from tests.zoo.test_file import zoo_of

SAFE = re.compile(r"[a-z0-9][a-z0-9.+-]*(_[a-z0-9][a-z0-9.+-]*)*")


def jobs_of(folder: Path, text: str) -> list[Job]:
    jobs = Jobs(zoo_of(folder, text))
    listed = list(jobs)
    assert len(listed) == len(jobs)
    return listed


def test_a_job_is_the_request_that_solve_would_be_given(tmp_path: Path) -> None:
    text = """\
models: deepseek-v3
clusters: {gpu: gb200, gpus: [72, 144], memory_gib: 150, gpus-per-node: 4}
sequence_lengths: 8192
objectives: memory
precision: fp8_mx
pin: [ep=8]
"""
    job = jobs_of(tmp_path, text)[1]
    asked = Request(
        model="deepseek-v3",
        gpu="gb200",
        gpus=144,
        memory_gib=150,
        gpus_per_node=4,
        seq_length=8192,
        objective="memory",
        precision="fp8_mx",
        pin=("ep=8",),
    )
    from constraints.refutation.encoding import digest, encoded

    assert job.digest() == digest(encoded(resolve(asked)))
    assert job.name == "deepseek-v3_gb200-nvl72-mem150x144_seq8192_memory"
    assert {str(job.problem().origin(name)) for name in ("gpus", "gpu", "memory_gib")} == {"zoo file, line 2"}


def test_the_order_is_that_of_the_file(tmp_path: Path) -> None:
    text = "models: [qwen3-8b, llama-3.1-8b]\nclusters: [{gpu: h200, gpus: [16, 8]}, {gpu: h100, gpus: 4}]\n"
    names = [job.name for job in jobs_of(tmp_path, text + "objectives: [memory, step-time]\n")]
    models, machines = ("qwen3-8b", "llama-3.1-8b"), ("h200x16", "h200x8", "h100x4")
    assert names == [f"{m}_{c}_seq4096_{o}" for m in models for c in machines for o in ("memory", "step-time")]


def test_what_is_the_same_by_another_name_is_listed_once(tmp_path: Path) -> None:
    text = """\
models: [llama-3.1-8b, meta-llama/Llama-3.1-8B]
clusters:
  - {gpu: h100, gpus: [8, 8, 16]}
  - {gpu: H100, gpus: [16, 24], gpus_per_node: 8, nvlink_domain: 8}
sequence_lengths: [4096, 4096]
"""
    assert [job.gpus for job in jobs_of(tmp_path, text)] == [8, 16, 24]


def test_clusters_that_differ_have_names_that_differ(tmp_path: Path) -> None:
    text = """\
models: llama-3.1-8b
clusters:
  - {gpu: h100, gpus: 8}
  - {gpu: h100, gpus: 8, gpus_per_node: 4}
  - {gpu: h100, gpus: 8, nvlink_domain: 4}
  - {gpu: h100, gpus: 8, memory_gib: 70.5}
  - {gpu: h100, gpus: 8, name: ../H100}
  - {gpu: h200, gpus: 8, name: h100}
"""
    jobs = jobs_of(tmp_path, text)
    clusters = [job.cluster for job in jobs]
    assert clusters[:4] == ["h100", "h100-node4-domain4", "h100-domain4", "h100-mem70.5"]
    assert all(name.startswith("h100-") for name in clusters[4:])
    assert len({job.name for job in jobs}) == 6
    assert jobs[0].digest() == jobs[4].digest() != jobs[5].digest()


def test_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for number, layers in enumerate((2, 4)):
        folder = tmp_path / str(number)
        folder.mkdir()
        sizes = "hidden_size: 256\nnum_attention_heads: 4\nffn_hidden_size: 512\nvocab_size: 1000\n"
        (folder / "entry.yaml").write_text(f"name: Mine\nnum_layers: {layers}\n{sizes}")
    names = [
        job.name
        for job in jobs_of(tmp_path, "models: [./0/entry.yaml, ./1/entry.yaml]\nclusters: {gpu: h100, gpus: 1}\n")
    ]
    assert names[0] == "mine_h100x1_seq4096_step-time"
    assert re.fullmatch(r"mine-[0-9a-f]{8}_h100x1_seq4096_step-time", names[1])


@given(st.text())
@settings(derandomize=True)
def test_a_label_is_one_plain_name(text: str) -> None:
    made = label(text)
    assert SAFE.fullmatch(made) and ".." not in made and len(made) <= 64 and not made.endswith(".")
    assert label(made) == made


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["x", "y", "z"]))))
@settings(derandomize=True)
def test_labels_tell_apart_what_differs(named: list[tuple[str, str]]) -> None:
    labels = unique_labels(named)
    assert len(set(labels)) == len(set(named))
    assert len(set(zip(labels, named, strict=True))) == len(set(named))


def test_a_hundred_thousand_jobs_take_no_memory(tmp_path: Path) -> None:
    counts = ", ".join(map(str, range(8, 8008, 8)))
    objectives = "[step-time, memory, communication, data-parallel]"
    text = f'models: "qwen3*"\nclusters: [{{gpu: h100, gpus: [{counts}]}}]\nobjectives: {objectives}\n'
    jobs = Jobs(zoo_of(tmp_path, text + "sequence_lengths: [4096, 8192]\n"))
    assert len(jobs) > 100_000
    tracemalloc.start()
    seen = sum(1 for _ in islice(jobs, 100_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen == 100_000
    assert peak < 1 << 20
