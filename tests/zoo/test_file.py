"""A zoo file is plain data: what it may say, and the one clear error with its line for everything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from constraints.errors import MeshwrightError
from models_catalog.errors import CatalogError
from models_catalog.loader import model_names
from solver.zoo.file import Zoo, read_zoo
from solver.zoo.jobs import Jobs

CONFIGS = Path(__file__).parent.parent / "catalog" / "configs"
CLUSTERS = "clusters: [{gpu: h100, gpus: 8}]\n"


def zoo_of(folder: Path, text: str) -> Zoo:
    path = folder / "zoo.yaml"
    path.write_text(text, encoding="utf-8")
    return read_zoo(str(path))


def models_of(folder: Path, words: str) -> list[str]:
    return [model.name for model in zoo_of(folder, f"models: {words}\n{CLUSTERS}").models]


def test_the_example_of_the_interface(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    folder.joinpath("config.json").write_bytes(CONFIGS.joinpath("llama-3.1-70b.json").read_bytes())
    text = """\
models: [llama-3.1-8b, "qwen3-*", ./my-model/config.json]     # names, globs, files; or all
clusters: [{gpu: h100, gpus: [8, 96, 1000]}, {gpu: gb200, gpus: [72, 576]}]
sequence_lengths: [4096, 32768]
objectives: [step-time, data-parallel]
global_batch_size: 1024
"""
    zoo = zoo_of(tmp_path, text)
    qwens = [name for name in model_names() if name.startswith("qwen3-")]
    assert [model.name for model in zoo.models] == ["llama-3.1-8b", *qwens, "my-model"]
    jobs = Jobs(zoo)
    assert len(jobs) == len(zoo.models) * 5 * 2 * 2 == len(list(jobs))
    assert {job.base.global_batch_size for job in jobs} == {1024}


def test_all_jobs_share_a_tolerance(tmp_path: Path) -> None:
    shared = "global_batch_size: 1000\nbatch_tolerance: 2%\n"
    jobs = Jobs(zoo_of(tmp_path, f"models: llama-3.1-8b\n{CLUSTERS}{shared}"))
    assert [(job.base.target_batch, job.base.batch_tolerance) for job in jobs] == [(1000, 200)]
    with pytest.raises(MeshwrightError, match="batch_tolerance"):
        list(Jobs(zoo_of(tmp_path, f"models: llama-3.1-8b\n{CLUSTERS}batch_tolerance: 2%\n")))


def test_all_means_every_model_of_the_catalog(tmp_path: Path) -> None:
    assert models_of(tmp_path, "all") == model_names()


def test_what_several_words_mean_is_there_once(tmp_path: Path) -> None:
    assert models_of(tmp_path, '[meta-llama/Llama-3.1-8B, "llama-3.1-*", LLAMA3.1_8B]')[:2] == [
        "llama-3.1-8b",
        "llama-3.1-405b",
    ]


def test_folders_and_globs_of_files_are_below_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b", "a"):
        (tmp_path / "theirs" / name).mkdir(parents=True)
        config = CONFIGS.joinpath("llama-3.1-70b.json").read_bytes()
        (tmp_path / "theirs" / name / "config.json").write_bytes(config)
    monkeypatch.chdir("/")
    assert models_of(tmp_path, "[./theirs/*]") == ["a", "b"]
    assert models_of(tmp_path, "[./theirs/*/config.json, ./theirs/a]") == ["a", "b"]
    assert models_of(tmp_path, "[theirs/a]") == ["a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "zoo must be a mapping of models, clusters, sequence_lengths, objectives"),
        (CLUSTERS, "models is missing"),
        ("models: all\n", "clusters is missing"),
        ("models: all\nclusters: []\n", "clusters is empty"),
        (f"models: []\n{CLUSTERS}", "models is empty"),
        (f"{CLUSTERS}model: llama-3.1-8b\n", "model is called models here ({path}:2:1)"),
        (
            f"models: all\n{CLUSTERS}sequnce_lengths: [1]\n",
            "is not a key of a zoo file; did you mean sequence_lengths?",
        ),
        (f"models: all\n{CLUSTERS}gpus: 8\n", "gpus belongs in clusters, as in `clusters: [{gpu: h100, gpus: 8}]`"),
        (f"models: all\n{CLUSTERS}top: 3\n", "top is not of a zoo"),
        (f"models: all\n{CLUSTERS}sequence_lengths: [4096, many]\n", "'many' must hold a whole number ({path}:3:26)"),
        (f"models: all\n{CLUSTERS}sequence_lengths: 0\n", "sequence_lengths 0 must be from 1 to 100000000"),
        (f"models: all\n{CLUSTERS}objectives: [speed]\n", "objectives 'speed' is none of step-time, communication"),
        (f"models: all\n{CLUSTERS}objectives: [steptime]\n", "did you mean step-time?"),
        (f"models: all\n{CLUSTERS}precision: bf17\n", "precision 'bf17' is none of"),
        (f"models: all\n{CLUSTERS}pin: {{tq: 4}}\n", "{path}:3:"),
        (
            f"models: [llama-3.1-9b]\n{CLUSTERS}",
            "models 'llama-3.1-9b' is not in the catalog; did you mean llama-3.1-8b",
        ),
        (f'models: ["gpt-9*"]\n{CLUSTERS}', "models 'gpt-9*' matches no model of the catalog"),
        (f"models: [./nowhere]\n{CLUSTERS}", "cannot be read: No such file or directory"),
        (f'models: ["./no*where"]\n{CLUSTERS}', "matches no file"),
        (f'models: ["/**/config.json"]\n{CLUSTERS}', "has **"),
        (f"models: [3]\n{CLUSTERS}", "models 3 must hold a name, a glob or a path: put it in quotes ({path}:1:10)"),
        ("models: all\nclusters: [h100]\n", "clusters must hold mappings, as in `{gpu: h100, gpus: [8, 96]}`"),
        ("models: all\nclusters: [{gpu: h100}]\n", "gpus is missing from the cluster ({path}:2:12)"),
        ("models: all\nclusters: [{gpus: 8}]\n", "gpu is missing from the cluster"),
        ("models: all\nclusters:\n  - gpu: h101\n    gpus: 8\n", "gpu 'h101' is not in the catalog; did you mean h100"),
        ("models: all\nclusters:\n  - {gpu: h100, gpus: [8, -1]}\n", "gpus -1 must be from 1 to 1000000 ({path}:3:27)"),
        ("models: all\nclusters: [{gpu: h100, gpus: 8, node: 4}]\n", "node is not a key of a cluster"),
        ("models: all\nclusters: [{gpu: h100, gpus: 8.5}]\n", "gpus 8.5 must hold whole numbers"),
        ("models: all\nclusters: [{gpu: h100, gpus: true}]\n", "must hold whole numbers"),
        ("models: all\nclusters: [{gpu: h100, gpus: 8, memory_gib: much}]\n", "memory_gib 'much' must be a number"),
        ("models: all\nclusters: [{gpu: h100, gpus: 8, name: ''}]\n", "name '' must be a word"),
        (f"models: all\nmodels: all\n{CLUSTERS}", "models is given twice"),
        ("models: !!python/object/apply:os.system [id]\n", "only plain data is read"),
        ("models: [all\n", "is not readable YAML or JSON"),
    ],
)
def test_errors_name_the_key_and_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "zoo.yaml"
    with pytest.raises((MeshwrightError, CatalogError)) as caught:
        Jobs(zoo_of(tmp_path, text))
    assert message.replace("{path}", str(path)) in str(caught.value)


def test_anchors_that_multiply_are_refused_before_they_do(tmp_path: Path) -> None:
    laughs = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10) if i else 'ha'}]\n" for i in range(12))
    with pytest.raises(CatalogError, match="expands to more values"):
        zoo_of(tmp_path, f"{laughs}models: *a11\n{CLUSTERS}")


def test_files_that_are_too_large_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="is larger than 1024 KiB"):
        zoo_of(tmp_path, f"models: all\n{CLUSTERS}# {'x' * (1 << 20)}\n")


def test_json_is_read_too(tmp_path: Path) -> None:
    data = {"models": "llama-3.1-8b", "clusters": {"gpu": "h100", "gpus": 8}}
    assert len(Jobs(zoo_of(tmp_path, json.dumps(data)))) == 1
