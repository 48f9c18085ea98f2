"""Layers over pipeline ranks: the four forms of Megatron, one of which is active.

Order of precedence: layout, first/last, account, even. ``solve`` writes only forms that come out (see
``constraints.pipeline.placement``); ``check`` meets whatever a person wrote.
"""

from __future__ import annotations

from typing import ClassVar

from constraints.layout import Layout, PipelineSplit
from constraints.pipeline.assignment import sizes_of_split
from constraints.pipeline.language import LayoutSyntaxError, parse_layout
from constraints.problem import Problem
from constraints.rule import Builder, Noticed, Rule, Stratum, bridge, mcore
from models_catalog.schema import ModelSpec

__all__ = ["RULES"]

MOST_LISTED = 6
"""Ranks that a sentence names one by one."""


class SplitRule(Rule):
    """Base of the rules about one form: they read the model, ``pp``, the chunks per rank and the split."""

    noticed = Noticed.CONFIG
    scope: tuple[str, ...] = ("pp", "vpp")
    reads: ClassVar[tuple[str, ...]] = ("num_layers",)

    def accepts(self, model: ModelSpec, pp: int, vpp: int | None, split: PipelineSplit) -> bool:
        raise NotImplementedError

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return self.accepts(problem.model, layout.pp, layout.vpp, layout.split)

    def post(self, model: Builder, problem: Problem) -> None:
        model.allow_shapes(lambda shape: self.accepts(problem.model, shape.pp, shape.vpp, shape.split))


class EvenSplit(SplitRule):
    """An even split gives every chunk the same number of layers: layers mod pp = 0 and (layers/pp) mod vpp = 0."""

    id = "pipeline.pp-even"
    noticed = Noticed.BUILD
    source = mcore("transformer/transformer_block.py", "get_num_layers_to_build")
    fix = "a pipeline_model_parallel_layout, first and last counts, or account_for_*: solve writes the one that fits"
    example = "61 layers on pp=16"

    def accepts(self, model: ModelSpec, pp: int, vpp: int | None, split: PipelineSplit) -> bool:
        if split.form != "even" or model.is_hybrid:
            return True
        return model.num_layers % (pp * (vpp or 1)) == 0

    def reason(self, problem: Problem, layout: Layout) -> str:
        layers, chunks = problem.model.num_layers, layout.pp * layout.chunks_per_rank
        where = f"pp={layout.pp} * vpp={layout.vpp} = {chunks} chunks" if layout.vpp else f"pp={layout.pp} stages"
        return f"{layers} layers over {where}: {layers} mod {chunks} = {layers % chunks}; {_way_out(layers, chunks)}"


def _way_out(layers: int, chunks: int) -> str:
    ends = ("account_for_embedding_in_pipeline_split", "account_for_loss_in_pipeline_split")
    for fields in (ends, ends[1:]):
        total = layers + len(fields)
        if total % chunks == 0:
            return f"with {' and '.join(fields)} it is {total} mod {chunks} = 0"
    return "an uneven split is said with pipeline_model_parallel_layout, or with first and last counts"


class AccountSplit(SplitRule):
    """Counting embedding and loss as layers, every chunk gets the same number: (layers + counted) mod (pp * vpp) = 0."""

    id = "pipeline.pp-account"
    source = mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    fix = "count only the end that makes it come out, or write a pipeline_model_parallel_layout"
    example = "32 layers and the embedding on pp=4: 33 mod 4 = 1"

    def accepts(self, model: ModelSpec, pp: int, vpp: int | None, split: PipelineSplit) -> bool:
        if split.form != "account":
            return True
        sizes = sizes_of_split(model.num_layers, pp, vpp or 1, split)
        return sizes is not None and min(sizes) >= 0

    def reason(self, problem: Problem, layout: Layout) -> str:
        split, chunks = layout.split, layout.pp * layout.chunks_per_rank
        counted = split.account_for_embedding + split.account_for_loss
        total = problem.model.num_layers + counted
        return (
            f"{problem.model.num_layers} layers + {counted} counted = {total} over {chunks} chunks: "
            f"{total} mod {chunks} = {total % chunks}"
        )


class FirstLastSplit(SplitRule):
    """First and last counts are positive and leave a number of layers that the middle stages share evenly."""

    id = "pipeline.pp-first-last"
    source = mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    fix = "counts that leave a multiple of the middle stages, or a pipeline_model_parallel_layout"
    example = "32 layers, pp=4, first=7: 25 mod 3 = 1"

    def accepts(self, model: ModelSpec, pp: int, vpp: int | None, split: PipelineSplit) -> bool:
        return split.form != "first-last" or sizes_of_split(model.num_layers, pp, vpp or 1, split) is not None

    def reason(self, problem: Problem, layout: Layout) -> str:
        split, vpp = layout.split, layout.chunks_per_rank
        given = [count for count in (split.first, split.last) if count is not None]
        rest, stages = problem.model.num_layers - sum(given), layout.pp - len(given)
        if any(count <= 0 or count % vpp for count in given):
            return f"{split.ends}: each must be positive and a multiple of vpp={vpp}"
        if rest == 0 or stages <= 0:
            return f"{split.ends} leaves {rest} layers to {max(0, stages)} middle stages"
        chunks, what = stages * vpp, "middle stages" if vpp == 1 else f"middle stages of {vpp} chunks"
        return f"{split.ends} leaves {rest} layers to {stages} {what}: {rest} mod {chunks} = {rest % chunks}"


class FirstLastSane(SplitRule):
    """First and last counts leave no negative number of layers, and not both are given when pp = 1.

    Megatron checks neither and builds a wrong model, or none.
    """

    id = "pipeline.pp-first-last-sane"
    stratum = Stratum.LAW
    noticed = Noticed.NEVER
    source = mcore("transformer/transformer_block.py", "get_num_layers_to_build")
    fix = "smaller first and last counts, or one of them alone"
    example = "first=20 last=20 with 32 layers on pp=3 leaves the middle stage -8 layers"

    def accepts(self, model: ModelSpec, pp: int, vpp: int | None, split: PipelineSplit) -> bool:
        if split.form != "first-last":
            return True
        both = split.first is not None and split.last is not None
        return (split.first or 0) + (split.last or 0) <= model.num_layers and not (both and pp == 1)

    def reason(self, problem: Problem, layout: Layout) -> str:
        split = layout.split
        if layout.pp == 1 and split.first is not None and split.last is not None:
            return f"{split.ends} are both given with pp=1: one rank is both"
        rest = problem.model.num_layers - (split.first or 0) - (split.last or 0)
        return f"{split.ends} leaves {rest} of {problem.model.num_layers} layers to the other stages"


class OneForm(SplitRule):
    """At most one uneven form is given: a layout, first/last counts, or account_for_*."""

    id = "pipeline.pp-modes-excl"
    source = mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    fix = "keep one of the forms and unset the others"
    example = "num_layers_in_first_pipeline_stage=7 with account_for_loss_in_pipeline_split=True"

    def accepts(self, model: ModelSpec, pp: int, vpp: int | None, split: PipelineSplit) -> bool:
        return len(_forms(split)) <= 1

    def reason(self, problem: Problem, layout: Layout) -> str:
        return f"{' and '.join(_forms(layout.split))} are given together"


def _forms(split: PipelineSplit) -> list[str]:
    given = {
        f"pipeline_model_parallel_layout={split.layout}": split.layout is not None,
        split.ends: split.first is not None or split.last is not None,
        "account_for_embedding_in_pipeline_split=True": split.account_for_embedding and not split.account_for_loss,
        "account_for_loss_in_pipeline_split=True": split.account_for_loss,
    }
    return [name for name, present in given.items() if present]


class LayoutString(SplitRule):
    """A layout string uses only E, t, m, L, '|', repeats 'x*n' and groups '(..)*n' that do not nest."""

    id = "pipeline.layout-string"
    source = mcore("transformer/pipeline_parallel_layer_layout.py", "PipelineParallelLayerLayout.parse_str_to_list")
    fix = "write it as solve does: Et*3|t*4|t*3L"
    example = "pipeline_model_parallel_layout='Et*3|x*3L'"

    def accepts(self, model: ModelSpec, pp: int, vpp: int | None, split: PipelineSplit) -> bool:
        return split.layout is None or _chunks(split.layout) is not None

    def reason(self, problem: Problem, layout: Layout) -> str:
        try:
            parse_layout(layout.split.layout or "")
        except LayoutSyntaxError as error:
            return str(error)
        return "the layout string does not parse"


class LayoutCount(SplitRule):
    """A layout has a whole number of chunks for every pipeline rank: chunks = pp * vpp."""

    id = "pipeline.layout-count"
    source = mcore("transformer/pipeline_parallel_layer_layout.py", "PipelineParallelLayerLayout.__init__")
    fix = "a multiple of pp chunks between the bars; vpp is then chunks / pp"
    example = "three chunks on pp=4"

    def accepts(self, model: ModelSpec, pp: int, vpp: int | None, split: PipelineSplit) -> bool:
        chunks = _chunks(split.layout)
        return chunks is None or len(chunks) == pp * (vpp or 1)

    def reason(self, problem: Problem, layout: Layout) -> str:
        chunks = len(_chunks(layout.split.layout) or ())
        return (
            f"the layout has {chunks} chunks, pp={layout.pp} * vpp={layout.chunks_per_rank} = "
            f"{layout.pp * layout.chunks_per_rank}"
        )


class LayoutContent(SplitRule):
    """A layout holds E first, L last, every decoder layer once, and all MTP layers together in a last virtual stage."""

    id = "pipeline.layout-content"
    source = mcore("transformer/pipeline_parallel_layer_layout.py", "PipelineParallelLayerLayout.validate_layer_layout")
    reads = ("num_layers", "mtp_num_layers")
    fix = "every t once, E in the first chunk, L in the last one, the m's together before it"
    example = "31 t in a layout for 32 layers"

    def accepts(self, model: ModelSpec, pp: int, vpp: int | None, split: PipelineSplit) -> bool:
        return self._fault(model, pp, vpp, split) is None

    def _fault(self, model: ModelSpec, pp: int, vpp: int | None, split: PipelineSplit) -> str | None:
        chunks = _chunks(split.layout)
        if chunks is None:
            return None
        flat = "".join(chunks)
        if not flat.startswith("E") or flat.count("E") != 1:
            return (
                f"it holds {flat.count('E')} E and begins with {flat[:1]!r}: E must stand once, at the very beginning"
            )
        if not flat.endswith("L") or flat.count("L") != 1:
            return f"it holds {flat.count('L')} L and ends with {flat[-1:]!r}: L must stand once, at the very end"
        if flat.count("t") != model.num_layers:
            return f"it holds {flat.count('t')} t, the model has {model.num_layers} layers"
        if flat.count("m") != model.mtp_layers:
            return f"it holds {flat.count('m')} m, the model has {model.mtp_layers} MTP layers"
        if "m" not in flat:
            return None
        if "t" in flat[flat.index("m") :]:
            return f"{flat[flat.index('m') :].count('t')} decoder layers come after an MTP layer"
        homes = [i for i, chunk in enumerate(chunks) if "m" in chunk]
        if len(homes) > 1:
            return f"MTP layers are spread over {len(homes)} chunks"
        per_rank = max(1, len(chunks) // pp)
        if homes[0] // pp != per_rank - 1:
            stage = homes[0] // pp
            return f"MTP layers are in virtual stage {stage} of {per_rank}: they must be in the last one of their rank"
        return None

    def reason(self, problem: Problem, layout: Layout) -> str:
        return f"layout: {self._fault(problem.model, layout.pp, layout.vpp, layout.split)}"


def _chunks(layout: str | None) -> tuple[str, ...] | None:
    if layout is None:
        return None
    try:
        return parse_layout(layout)
    except LayoutSyntaxError:
        return None


class HybridTakesNoLayout(SplitRule):
    """A hybrid model is split evenly, by first/last counts or by pipes in its pattern, never by a layout string."""

    id = "pipeline.hybrid-layout"
    noticed = Noticed.CONFIG
    source = bridge("models/hybrid/hybrid_provider.py", "HybridModelProvider.provide")
    reads = ("hybrid_override_pattern",)
    fix = "first and last counts, or pipes in hybrid_override_pattern"
    example = "pipeline_model_parallel_layout on nemotron-h"

    def accepts(self, model: ModelSpec, pp: int, vpp: int | None, split: PipelineSplit) -> bool:
        return not model.is_hybrid or split.layout is None

    def reason(self, problem: Problem, layout: Layout) -> str:
        layout_string = layout.split.layout
        return f"{problem.model.name} is a hybrid model and takes no pipeline_model_parallel_layout={layout_string}"


class LayerOnEveryRank(SplitRule):
    """No pipeline rank is without a decoder layer.

    Megatron accepts it; such a rank holds only the embedding, the loss or MTP, and waits for the others.
    """

    id = "pipeline.layer-on-every-rank"
    stratum = Stratum.ADVICE
    noticed = Noticed.NEVER
    source = mcore("transformer/transformer_block.py", "get_num_layers_to_build")
    fix = "a pp of at most as many as there are layers"
    example = "E|t*16|t*16|L on pp=4"

    def accepts(self, model: ModelSpec, pp: int, vpp: int | None, split: PipelineSplit) -> bool:
        counts = _layers_of_ranks(model, pp, vpp or 1, split)
        return counts is None or min(counts) > 0

    def reason(self, problem: Problem, layout: Layout) -> str:
        counts = _layers_of_ranks(problem.model, layout.pp, layout.chunks_per_rank, layout.split) or []
        empty = [str(rank) for rank, count in enumerate(counts) if count <= 0]
        ranks = ", ".join(empty[:MOST_LISTED]) + f" and {len(empty) - MOST_LISTED} more" * (len(empty) > MOST_LISTED)
        have = "has" if len(empty) == 1 else "have"
        return f"{len(empty)} of {layout.pp} pipeline ranks {have} no decoder layer: {ranks}"


def _layers_of_ranks(model: ModelSpec, pp: int, vpp: int, split: PipelineSplit) -> list[int] | None:
    chunks = _chunks(split.layout)
    if split.layout is not None:
        if chunks is None or len(chunks) != pp * vpp:
            return None
        sizes: tuple[int, ...] | None = tuple(chunk.count("t") for chunk in chunks)
    else:
        sizes = sizes_of_split(model.num_layers, pp, vpp, split)
    return None if sizes is None else [sum(sizes[rank::pp]) for rank in range(pp)]


class PipelineNeedsInterleaving(SplitRule):
    """A pipeline whose ranks hold several layers each runs them in virtual stages; else (pp-1)/M of the step is bubble."""

    id = "pipeline.bubble"
    stratum = Stratum.ADVICE
    noticed = Noticed.NEVER
    source = mcore("pipeline_parallel/schedules.py", "forward_backward_pipelining_without_interleaving")
    scope = ("pp", "vpp", "num_microbatches")
    enforced_by_solve = False
    fix = "virtual_pipeline_model_parallel_size, so that each rank has several chunks"
    example = "llama-3.1-70b with pp=8 and vpp=null"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        hybrid = problem.model.is_hybrid
        return layout.pp == 1 or layout.chunks_per_rank > 1 or problem.model.num_layers < 2 * layout.pp or hybrid

    def post(self, model: Builder, problem: Problem) -> None:
        layers, hybrid = problem.model.num_layers, problem.model.is_hybrid
        model.allow_shapes(lambda s: s.pp == 1 or (s.vpp or 1) > 1 or layers < 2 * s.pp or hybrid)

    def reason(self, problem: Problem, layout: Layout) -> str:
        pp, m = layout.pp, layout.num_microbatches
        return (
            f"pp={pp} without interleaving idles for {pp - 1} of {m + pp - 1} micro-batch times; "
            "set virtual_pipeline_model_parallel_size to cut that"
        )


class PipelineIsFilled(Rule):
    """A pipeline computes for at least two thirds of the step: 2 (pp - 1) <= micro-batches * vpp."""

    id = "pipeline.fill"
    stratum = Stratum.ADVICE
    noticed = Noticed.NEVER
    source = mcore("pipeline_parallel/schedules.py", "get_forward_backward_func")
    scope = ("pp", "vpp", "num_microbatches")
    enforced_by_solve = False
    fix = "more micro-batches (a larger batch, a smaller dp or micro-batch), a larger vpp, or a smaller pp"
    example = "pp=16 with 4 micro-batches: 15 of 19 micro-batch times are idle"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return 2 * (layout.pp - 1) <= layout.num_microbatches * layout.chunks_per_rank

    def post(self, model: Builder, problem: Problem) -> None:
        a, x = model.arithmetic, model.x
        model.at_most((x.pp - 1) * 2, a.mul(x.num_microbatches, x.vpp))

    def reason(self, problem: Problem, layout: Layout) -> str:
        pp, work = layout.pp, layout.num_microbatches * layout.chunks_per_rank
        share = round(100 * (pp - 1) / (work + pp - 1))
        chunks = f" in {layout.vpp} virtual stages" if layout.vpp else ""
        return (
            f"pp={pp} with {layout.num_microbatches} micro-batches{chunks} is idle for {share}% of the step: raise the "
            "batch, lower pp or the micro-batch size, or interleave more"
        )


RULES = (
    EvenSplit(),
    AccountSplit(),
    FirstLastSplit(),
    FirstLastSane(),
    OneForm(),
    LayoutString(),
    LayoutCount(),
    LayoutContent(),
    HybridTakesNoLayout(),
    LayerOnEveryRank(),
    PipelineNeedsInterleaving(),
    PipelineIsFilled(),
)
