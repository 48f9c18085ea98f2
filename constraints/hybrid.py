"""Hybrid models: Mamba and attention layers in one pattern, cut into stages.

Symbols: ``M`` Mamba, ``G`` gated delta net, ``*`` attention, ``D`` sparse attention, ``+`` latent attention, ``-``
feed-forward, ``E`` experts; ``|`` ends a pipeline stage, ``/`` begins an MTP pattern.
"""

from __future__ import annotations

from typing import Any

from constraints.layout import Layout, PipelineSplit
from constraints.problem import Problem
from constraints.rule import Builder, Noticed, Rule, SettingsRule, Stratum, bridge, mcore, older_mcore
from models_catalog.schema import ModelSpec

__all__ = ["RULES", "main_pattern"]

SYMBOLS = frozenset("MG*D+-E")
ALLOCATION = "models/hybrid/hybrid_layer_allocation.py"


def main_pattern(model: ModelSpec) -> str:
    """The pattern of the decoder without MTP, pipes kept; empty for a model that is not hybrid."""
    return (model.hybrid_override_pattern or "").split("/")[0]


def _segments(model: ModelSpec) -> int:
    return main_pattern(model).count("|") + 1


class PatternReads(SettingsRule):
    """A hybrid pattern has known symbols, no * beside D or +, num_layers layers, and equal MTP parts without pipes."""

    id = "hybrid.hybrid-symbols"
    noticed = Noticed.CONFIG
    source = mcore(ALLOCATION, "parse_hybrid_pattern")
    reads = ("hybrid_override_pattern", "num_layers")
    fix = "a pattern of M, G, *, D, +, - and E with one symbol a layer"
    example = "M*M+: * and + in one pattern"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return self._fault(problem.model) is None

    def _fault(self, model: ModelSpec) -> str | None:
        if model.hybrid_override_pattern is None:
            return None
        main, *following = model.hybrid_override_pattern.split("/")
        for part, known in ((main, SYMBOLS | {"|"}), *((part, SYMBOLS) for part in following)):
            if unknown := sorted(set(part) - known):
                return f"the pattern '{part}' holds {', '.join(unknown)}; known are {' '.join(sorted(known))}"
            if "*" in part and set(part) & {"D", "+"}:
                return f"the pattern '{part}' mixes * with D or +"
        if len(set(following)) > 1:
            return f"the {len(following)} MTP patterns {', '.join(following)} are not the same"
        count = len(main.replace("|", ""))
        return f"the pattern has {count} layers, num_layers={model.num_layers}" if count != model.num_layers else None

    def reason(self, problem: Problem, layout: Layout) -> str:
        return self._fault(problem.model) or ""


class ShapeRule(Rule):
    """Base of the rules about a hybrid pattern on pipeline ranks."""

    noticed = Noticed.BUILD
    source = mcore(ALLOCATION, "select_pipeline_segment")
    scope = ("pp", "vpp")
    reads = ("hybrid_override_pattern", "num_layers")

    def accepts(self, model: ModelSpec, pp: int, vpp: int | None, split: PipelineSplit) -> bool:
        raise NotImplementedError

    def holds(self, problem: Problem, layout: Layout) -> bool:
        if not problem.model.is_hybrid:
            return True
        return self.accepts(problem.model, layout.pp, layout.vpp, layout.split)

    def post(self, model: Builder, problem: Problem) -> None:
        if problem.model.is_hybrid:
            model.allow_shapes(self._allows(problem.model))

    def _allows(self, model: ModelSpec) -> Any:
        return lambda shape: self.accepts(model, shape.pp, shape.vpp, shape.split)


class NoVirtualStages(ShapeRule):
    """A hybrid model has no virtual pipeline stages."""

    id = "hybrid.hybrid-no-vpp"
    source = bridge("models/hybrid/hybrid_provider.py", "HybridModelProvider.provide")
    fix = "virtual_pipeline_model_parallel_size=null"
    example = "nemotron-h-8b with pp=2 vpp=2"

    def accepts(self, model: ModelSpec, pp: int, vpp: int | None, split: PipelineSplit) -> bool:
        return vpp is None

    def reason(self, problem: Problem, layout: Layout) -> str:
        return (
            f"vpp={layout.vpp} in the hybrid model {problem.model.name}, which takes no virtual stages: "
            "set virtual_pipeline_model_parallel_size=null"
        )


class PipesOverRanks(ShapeRule):
    """A pattern with pipes has as many segments for every pipeline rank, and takes no first or last counts."""

    id = "hybrid.hybrid-pipes"
    fix = "as many segments as a multiple of pp, and no first or last counts"
    example = "M*M|M*M|M*M with pp=2: 3 mod 2 = 1"

    def accepts(self, model: ModelSpec, pp: int, vpp: int | None, split: PipelineSplit) -> bool:
        segments = _segments(model)
        return segments == 1 or (segments % pp == 0 and split.first is None and split.last is None)

    def reason(self, problem: Problem, layout: Layout) -> str:
        segments, pp, split = _segments(problem.model), layout.pp, layout.split
        if segments % pp:
            return f"the pattern has {segments} segments over pp={pp}: {segments} mod {pp} = {segments % pp}"
        return f"the pattern has {segments} segments, and {split.ends} is given too"


class PipesUnknown(ShapeRule):
    """A hybrid pattern has neither pipes nor MTP parts: it is split evenly or by first and last counts."""

    id = "hybrid.hybrid-no-pipes"
    source = older_mcore("ssm/mamba_hybrid_layer_allocation.py", "_allocate_override")
    until = "0.19"
    fix = "the pattern without pipes and MTP parts"
    example = "M*M|M*M on two pipeline ranks"

    def accepts(self, model: ModelSpec, pp: int, vpp: int | None, split: PipelineSplit) -> bool:
        return not set(model.hybrid_override_pattern or "") & {"|", "/"}

    def reason(self, problem: Problem, layout: Layout) -> str:
        return (
            f"the pattern '{problem.model.hybrid_override_pattern}' holds | or /, which this generation does not know"
        )


class EverySegmentBuilt(ShapeRule):
    """A pattern with pipes has exactly one segment for every pipeline rank: the others are silently not built.

    Megatron Bridge allows no virtual stages, and rank r builds segment r only.
    """

    id = "hybrid.pipes-used"
    stratum = Stratum.ADVICE
    noticed = Noticed.NEVER
    fix = "pp equal to the number of segments"
    example = "M*M|M*M|M*M|M*M with pp=2: two segments of four are built"

    def accepts(self, model: ModelSpec, pp: int, vpp: int | None, split: PipelineSplit) -> bool:
        return _segments(model) in (1, pp * (vpp or 1))

    def reason(self, problem: Problem, layout: Layout) -> str:
        segments, built = _segments(problem.model), layout.pp * layout.chunks_per_rank
        return f"the pattern has {segments} segments, pp={layout.pp} builds {built}"


class LayersOverRanks(ShapeRule):
    """A pattern without pipes splits evenly, layers mod pp = 0, or by first and last counts.

    Counting embedding or loss as layers does not help: hybrid models do not look at it.
    """

    id = "hybrid.hybrid-split"
    fix = "a pp that divides the layers, or first and last counts that leave a multiple"
    example = "nemotron-h-8b: 52 layers with pp=8: 52 mod 8 = 4"

    def accepts(self, model: ModelSpec, pp: int, vpp: int | None, split: PipelineSplit) -> bool:
        return _segments(model) > 1 or split.form in ("first-last", "layout") or model.num_layers % pp == 0

    def reason(self, problem: Problem, layout: Layout) -> str:
        layers, pp = problem.model.num_layers, layout.pp
        return (
            f"{layers} layers over pp={pp}: {layers} mod {pp} = {layers % pp}; set num_layers_in_first_pipeline_stage "
            "or num_layers_in_last_pipeline_stage, or put pipes into the pattern"
        )


RULES = (
    PatternReads(),
    NoVirtualStages(),
    PipesOverRanks(),
    PipesUnknown(),
    EverySegmentBuilt(),
    LayersOverRanks(),
)
