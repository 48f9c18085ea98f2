"""What is settled together when a placement does not keep what the model promised."""

from __future__ import annotations

import pytest

from constraints.registry import enforced_rules
from solver.model import Model
from solver.placing import with_other_chunks
from solver.request import Request
from solver.resolution import resolve
from solver.search import best_layouts


@pytest.mark.parametrize(("words", "allowed"), [({"limit": ("vpp<=3",)}, {2, 3}), ({}, set(range(2, 11)))])
def test_other_virtual_stages_are_those_that_were_not_ruled_out(
    words: dict[str, tuple[str, ...]], allowed: set[int]
) -> None:
    problem = resolve(Request(model="llama-3.1-70b", gpus=64, gpu="h200", pin=("pp=8", "cp=2"), **words))
    model = Model(problem)
    model.post(enforced_rules(problem))
    (layout,) = best_layouts(problem).layouts
    assert layout.vpp is not None
    likes = with_other_chunks(model, layout, "step-time")
    assert likes and {x.vpp for x in likes} <= allowed - {layout.vpp}
