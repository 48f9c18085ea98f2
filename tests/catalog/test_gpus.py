"""Machines: the shipped entries, and entries of a user's own."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from constraints.dispatch import _runs_on
from models_catalog.documents import read_document
from models_catalog.errors import InvalidEntry, UnknownName
from models_catalog.loader import HOME, all_gpus, find_gpu, gpu_names, load_gpu
from models_catalog.schema import GpuSpec
from models_catalog.validation import validated_gpu
from solver.request import Request
from solver.resolution import resolve

ASKED_FOR = [
    "a100-40gb",
    "a100-80gb",
    "a100-80gb-pcie",
    "h100",
    "h100-pcie",
    "h100-nvl",
    "h200",
    "h20",
    "b200",
    "b300",
    "gb200-nvl72",
    "gb300-nvl72",
    "l40s",
    "mi300x",
    "mi325x",
    "mi355x",
]
GPUS = pytest.mark.parametrize("gpu", all_gpus(), ids=lambda gpu: gpu.name)


def test_every_machine_that_was_asked_for_is_there() -> None:
    assert set(ASKED_FOR) <= set(gpu_names())


@GPUS
def test_a_shipped_entry_passes_what_a_users_entry_must_pass(gpu: GpuSpec) -> None:
    path = str(HOME / "gpus" / f"{gpu.name}.yaml")
    assert validated_gpu(read_document(path), path) == gpu


@GPUS
def test_every_number_names_its_source(gpu: GpuSpec) -> None:
    sourced = {name.strip() for source in gpu.sources for name in source.partition(": ")[0].split(",")}
    numbers = {
        f.name
        for f in fields(GpuSpec)
        if f.name not in ("name", "aliases", "architecture", "sources", "note") and getattr(gpu, f.name) is not None
    }
    assert numbers <= sourced, f"without a source: {sorted(numbers - sourced)}"


@GPUS
def test_usable_memory_is_below_the_label(gpu: GpuSpec) -> None:
    assert 0.9 * gpu.label_gib < gpu.usable_gib < gpu.label_gib


@GPUS
def test_peaks_rise_as_precision_falls(gpu: GpuSpec) -> None:
    peaks = [peak for peak in (gpu.bf16_flops, gpu.fp8_flops, gpu.fp4_flops) if peak is not None]
    assert peaks == sorted(peaks)
    assert gpu.fp8_flops is None or 1.9 < gpu.fp8_flops / gpu.bf16_flops < 2.1


def test_names_and_aliases_are_unique() -> None:
    words = [word for gpu in all_gpus() for word in (gpu.name, *gpu.aliases)]
    assert len(words) == len(set(words))


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("gb200", "gb200-nvl72"),
        ("GB300", "gb300-nvl72"),
        ("h100-sxm", "h100"),
        ("a100", "a100-80gb"),
        ("a100_sxm_80gb", "a100-80gb"),
    ],
)
def test_short_names_are_understood(alias: str, name: str) -> None:
    assert load_gpu(alias).name == name


def test_nvl72_has_four_gpus_in_a_node_and_seventy_two_in_a_domain() -> None:
    for name in ("gb200", "gb300"):
        assert (load_gpu(name).gpus_per_node, load_gpu(name).nvlink_domain) == (4, 72)


def test_amd_parts_are_not_judged_as_nvidia_ones() -> None:
    for name in ("mi300x", "mi325x", "mi355x"):
        gpu = load_gpu(name)
        assert gpu.architecture.startswith("cdna")
        assert _runs_on("deepep", gpu), "not judged is not refused"
    assert not _runs_on("deepep", load_gpu("gb200"))


def write(folder: Path, text: str) -> str:
    path = folder / "ours.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_machine_of_ones_own_may_say_only_what_differs(tmp_path: Path) -> None:
    path = write(tmp_path, "like: h100\nnetwork_bytes_per_second: 12.5e9\ngpus_per_node: 4\nnvlink_domain: 4\n")
    gpu, base = find_gpu(path), load_gpu("h100")
    assert (gpu.name, gpu.network_bytes_per_second, gpu.gpus_per_node) == ("ours", 12_500_000_000, 4)
    assert (gpu.usable_gib, gpu.bf16_flops) == (base.usable_gib, base.bf16_flops)
    assert gpu.sources[0] == f"network_bytes_per_second, gpus_per_node, nvlink_domain: {path}"
    assert gpu.sources[1:] == base.sources


def test_a_request_takes_a_machine_from_a_file(tmp_path: Path) -> None:
    path = write(tmp_path, "like: h200\nusable_gib: 100\n")
    problem = resolve(Request(model="llama-3.1-8b", gpus=8, gpu=path))
    assert problem.gpu.name == "ours"
    assert problem.budget_bytes == 100 << 30


@pytest.mark.parametrize(
    ("text", "field", "said"),
    [
        ("name: x\n", "label_gib", "missing"),
        ("like: h100\nusable: 70\n", "usable", "did you mean usable_gib"),
        ("like: h100\nusable_gib: 90\n", "usable_gib", "more than the label"),
        ("like: h100\ngpus_per_node: 8.5\n", "gpus_per_node", "integer"),
        ("like: h100\ngpus_per_node: true\n", "gpus_per_node", "integer"),
        ("like: h100\ngpus_per_node: 0\n", "gpus_per_node", "above 0"),
        ("like: h100\nnvlink_bytes_per_second: 450\n", "nvlink_bytes_per_second", "single bytes"),
        ("like: h100\nbf16_flops: 989\n", "bf16_flops", "single bytes or operations"),
        ("like: h100\nhbm_bytes_per_second: 1e30\n", "hbm_bytes_per_second", "at most"),
        ("like: h100\nnetwork_efficiency: 85\n", "network_efficiency", "at most 1"),
        ("like: h100\ncollective_efficiency: 0.7\n", "collective_efficiency", "pairs"),
        ("like: h100\ncollective_efficiency: []\n", "collective_efficiency", "sizes"),
        ("like: h100\ncollective_efficiency: [[8, 0.7], [2, 0.5]]\n", "collective_efficiency", "rising"),
        ("like: h100\ncollective_efficiency: [[2, 70]]\n", "collective_efficiency", "at most 1"),
        ("like: h100\nsources: mine\n", "sources", "tuple"),
        ("like: [h100]\n", "like", "name of a GPU"),
    ],
)
def test_a_wrong_machine_is_refused_by_the_name_of_its_field(tmp_path: Path, text: str, field: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InvalidEntry) as caught:
        find_gpu(path)
    assert caught.value.field == field
    assert said in str(caught.value)
    assert path in str(caught.value)


def test_an_unknown_name_has_suggestions(tmp_path: Path) -> None:
    with pytest.raises(UnknownName) as caught:
        load_gpu("h1000")
    assert caught.value.suggestions[0] == "h100"
    with pytest.raises(UnknownName):
        find_gpu(write(tmp_path, "like: h1000\n"))
