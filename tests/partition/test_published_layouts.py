"""The layout strings of Megatron Bridge's recipes (067f987): read, judged legal, and never faster than solve's own split."""

from __future__ import annotations

from dataclasses import replace

import pytest

from constraints.layout import Layout, PipelineSplit
from constraints.partition.search import best_partition
from constraints.pipeline.language import parse_layout
from constraints.problem import Problem
from constraints.registry import rules_of
from constraints.rule import Stratum
from constraints.timing.step import step_time
from solver.request import Request
from solver.resolution import resolve

FOURS = "Et*4|(t*4|)*14"
SPELLED = "Et*4|" + "t*4|" * 14
PUBLISHED = [
    ("deepseek-v3", 1, 2, 32, FOURS + "tmL"),
    ("deepseek-v3", 1, 4, 64, FOURS + "tmL"),
    ("deepseek-v3", 1, 4, 64, "Et*4|(tttt|)*14tmL"),
    ("deepseek-v3", 1, 8, 32, SPELLED + "tmL"),
    ("deepseek-v3", 1, 16, 8, SPELLED + "tmL"),
    ("deepseek-v3", 2, 8, 64, SPELLED + "tmL"),
    ("deepseek-v3", 2, 8, 64, "Et|(tt|)*30mL"),
    ("deepseek-v4-pro", 1, 4, 64, "Et*4|(tttt|)*14tmL"),
    ("glm-4.5v", 1, 8, 4, "Et*5|t*6|t*6|t*6|t*6|t*6|t*6|t*5L"),
    ("glm-4.5v", 1, 8, 16, "Et|t*7|t*7|t*7|t*7|t*7|t*7|t*3L"),
    ("glm-5.2", 1, 13, 16, "Etttttt|tttt|" + "tttttttt|" * 6 + "tttt|" * 4 + "ttttmL"),
    ("glm-5.2", 1, 13, 32, "Et|t||" + "tttt|tttt|tttt|tttt||" * 4 + "tttt|tttt|ttttmL"),
    ("glm-5.2", 1, 19, 32, "Etttttt|" + "tttt|" * 17 + "ttttmL"),
    ("k-exaone-2.0-750b-a37b", 4, 8, 16, "Et*11|" + "t*10|" * 6 + "t*7m*4L"),
    ("k-exaone-2.0-750b-a37b", 4, 16, 32, "Et*6|" + "t*5|" * 14 + "t*2m*4L"),
    ("kimi-k2", 1, 4, 64, SPELLED + "tL"),
    ("kimi-k2", 1, 16, 16, SPELLED + "tL"),
    ("kimi-k2", 2, 16, 32, SPELLED + "tL"),
    ("kimi-k2", 8, 16, 64, "Et|(tt|)*30L"),
    ("kimi-k2.5", 2, 16, 32, SPELLED + "tL"),
    ("llama-3-70b", 4, 8, 1, "Et*2|(t*2|)*34,t*3|(t*2|)*3,tL"),
    ("qwen3-next-80b-a3b", 1, 2, 32, "Et*4|(t*7|)*5t*8|tmL"),
]
"""Model, tp, pp, ep and layout string; one row for each that differs."""


def published(model: str, tp: int, pp: int, ep: int, text: str) -> tuple[Problem, Layout]:
    """The request and the layout, on as many GPUs as the degrees need and with micro-batches enough for any schedule."""
    stage = max(tp, ep)
    problem = resolve(Request(model=model, gpus=stage * pp, gpu="h100"))
    chunks = parse_layout(text)
    problem = replace(problem, model=replace(problem.model, mtp_num_layers="".join(chunks).count("m") or None))
    dp, count = stage // tp, 4 * pp
    layout = Layout(
        tp=tp,
        pp=pp,
        vpp=len(chunks) // pp if len(chunks) > pp else None,
        ep=ep,
        dp=dp,
        edp=stage // ep,
        sequence_parallel=tp > 1,
        num_microbatches=count,
        global_batch_size=count * dp,
        gpus=problem.gpus,
        split=PipelineSplit(layout=text),
        settings=problem.settings,
    )
    return replace(problem, global_batch_size=count * dp), layout


@pytest.mark.parametrize(("model", "tp", "pp", "ep", "text"), PUBLISHED)
def test_a_published_layout_is_legal_and_no_faster_than_our_split(
    model: str, tp: int, pp: int, ep: int, text: str
) -> None:
    problem, layout = published(model, tp, pp, ep, text)
    binding = [rule for rule in rules_of(problem.megatron) if rule.stratum in (Stratum.LAW, Stratum.FRAMEWORK)]
    assert not [rule.id for rule in binding if not rule.holds(problem, layout)]
    found = best_partition(problem, layout, "step-time", fitting=False)
    assert found is not None
    ours = replace(layout, split=found.split)
    assert step_time(problem, ours).step_ns <= step_time(problem, layout).step_ns, found.split
