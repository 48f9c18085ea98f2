"""Full recompute by count: what each layer of each chunk keeps and rebuilds, held against a plain enumeration."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constraints.layout import NO_RECOMPUTE, Layout, Recompute
from constraints.memory.activations import backward_bytes, mtp_bytes, stage_input_bytes
from constraints.memory.budget import layout_stages, memory_report
from constraints.memory.stage import phases
from constraints.pipeline.placement import place
from constraints.problem import Problem
from models_catalog.schema import LayerKind, ModelSpec
from tests.memory.asking import INTEGERS
from tests.memory.asking import kept as kept_by
from tests.rules.builders import FULL, model, moe, said

SPECS = {
    "dense": model(num_layers=12),
    "three dense first": moe(num_layers=12, moe_layer_freq=(0, 0, 0, *(1,) * 9)),
    "alternating": moe(num_layers=12, moe_layer_freq=2),
    "mtp": model(num_layers=12, mtp_num_layers=1),
}
SHAPES = [(1, None), (2, None), (3, None), (5, None), (2, 2), (2, 3), (3, 2)]


def asked(spec: ModelSpec, pp: int, vpp: int | None, recompute: Recompute, microbatches: int) -> tuple[Problem, Layout]:
    return said(spec, pp=pp, vpp=vpp, gpus=30, recompute=recompute, num_microbatches=microbatches, **_split(spec, pp))


def _split(spec: ModelSpec, pp: int) -> dict[str, object]:
    found = place(spec, pp, 1)
    assert found is not None
    return {"split": found[1]} if spec.num_layers % pp else {}


def kept(p: Problem, x: Layout, layers: tuple[LayerKind, ...]) -> int:
    return sum(kept_by(p.model, kind, num_microbatches=x.num_microbatches) for kind in layers)


def chunk_keeps(p: Problem, x: Layout, layers: tuple[LayerKind, ...]) -> int:
    """Of one micro-batch, layer by layer."""
    inputs, total = stage_input_bytes(INTEGERS, p, x), 0
    for index, kind in enumerate(layers):
        if x.recompute.method == "uniform":
            total += inputs if index % (x.recompute.num_layers or 1) == 0 else 0
        else:
            total += inputs if index < (x.recompute.num_layers or 0) else kept(p, x, (kind,))
    return total


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.sampled_from(list(SPECS)),
    st.sampled_from(SHAPES),
    st.sampled_from(["block", "uniform"]),
    st.integers(1, 13),
    st.integers(1, 3),
)
def test_every_layer_of_every_chunk_keeps_its_own(
    name: str, shape: tuple[int, int | None], method: str, layers: int, groups: int
) -> None:
    pp, vpp = shape
    spec = SPECS[name] if method == "block" else replace(SPECS[name], mtp_num_layers=None)
    p, x = asked(spec, pp, vpp, Recompute("full", method, layers), groups * pp)
    for stage in layout_stages(p, x) or ():
        copies = stage.copies if stage.interleaved else (min(stage.copies[0], x.num_microbatches),) * len(stage.copies)
        expected = 0
        for chunk, alive in zip(stage.chunks, copies, strict=True):
            expected += alive * chunk_keeps(p, x, spec.layer_kinds[chunk.start : chunk.stop])
            expected += alive * chunk.mtp * (kept(p, x, spec.mtp_kinds) + mtp_bytes(INTEGERS, p, x))
        assert phases(INTEGERS, p, x, stage)["backward"]["activations"] == expected


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", [name for name in SPECS if name != "mtp"])
def test_a_block_of_all_layers_is_uniform_recompute_and_a_block_of_none_is_no_recompute(
    name: str, shape: tuple[int, int | None]
) -> None:
    spec = SPECS[name]
    for block, same in ((Recompute("full", "block", 12), FULL), (Recompute("full", "block", 0), NO_RECOMPUTE)):
        one = memory_report(*asked(spec, *shape, block, 6))
        other = memory_report(*asked(spec, *shape, same, 6))
        assert one == other


def test_mtp_layers_are_no_part_of_a_block() -> None:
    """The last rank keeps all of theirs, of the one micro-batch that it has in flight."""
    spec = SPECS["mtp"]
    block = memory_report(*asked(spec, 2, None, Recompute("full", "block", 12), 2))
    whole = memory_report(*asked(spec, 2, None, FULL, 2))
    assert block is not None and whole is not None
    more = [
        b.components["activations"] - w.components["activations"]
        for b, w in zip(block.stages, whole.stages, strict=True)
    ]
    p, x = asked(spec, 2, None, FULL, 2)
    assert more == [0, kept(p, x, spec.mtp_kinds) - stage_input_bytes(INTEGERS, p, x)]


@pytest.mark.parametrize(("layers", "together"), [(1, 1), (2, 2), (4, 4), (6, 6), (9, 6)])
def test_a_group_is_rebuilt_whole_and_ends_with_its_chunk(layers: int, together: int) -> None:
    spec = SPECS["dense"]
    p, x = asked(spec, 2, None, Recompute("full", "uniform", layers), 4)
    (kind,) = set(spec.layer_kinds)
    expected = together * kept(p, x, (kind,)) + backward_bytes(INTEGERS, p, x, kind, NO_RECOMPUTE)
    first = (layout_stages(p, x) or ())[0]
    assert phases(INTEGERS, p, x, first)["backward"]["transient"] == expected


@pytest.mark.parametrize(("layers", "rebuilt"), [(0, 0), (1, 0), (5, 0), (6, 1), (9, 1)])
def test_the_layers_that_are_not_in_the_block_are_gone_when_the_block_is_rebuilt(layers: int, rebuilt: int) -> None:
    """Six layers on a rank: with one left alone its activations make room for those that are computed again."""
    spec = SPECS["dense"]
    p, x = asked(spec, 2, None, Recompute("full", "block", layers), 4)
    (kind,) = set(spec.layer_kinds)
    expected = rebuilt * kept(p, x, (kind,)) + backward_bytes(INTEGERS, p, x, kind, NO_RECOMPUTE)
    first = (layout_stages(p, x) or ())[0]
    assert phases(INTEGERS, p, x, first)["backward"]["transient"] == expected
