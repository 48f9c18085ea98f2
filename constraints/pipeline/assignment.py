"""Which layers each pipeline chunk builds, for every form in which Megatron lets a person say it.

Chunk ``i`` of ``pp * vpp`` sits on pipeline rank ``i % pp`` as its virtual stage ``i // pp``; layers run through the
chunks in order. Source: NVIDIA/Megatron-LM@d98e8a6
``megatron/core/transformer/transformer_block.py::get_num_layers_to_build`` and
``pipeline_parallel_layer_layout.py::PipelineParallelLayerLayout``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from constraints.layout import PipelineSplit
from constraints.pipeline.language import LayoutSyntaxError, format_layout, parse_layout
from models_catalog.schema import LayerKind, ModelSpec

__all__ = [
    "Assignment",
    "Chunk",
    "assignment_of",
    "segment_sizes",
    "simplest_split",
    "simplest_split_of_text",
    "sizes_of_split",
]


class Chunk(NamedTuple):
    """One virtual stage: decoder layers ``start`` to ``stop`` (exclusive), and what else it holds."""

    start: int
    stop: int
    embedding: bool = False
    mtp: int = 0
    loss: bool = False

    @property
    def layers(self) -> int:
        return self.stop - self.start

    def tokens(self) -> str:
        """The chunk in layout-language tokens, repeats not folded."""
        return "E" * self.embedding + "t" * self.layers + "m" * self.mtp + "L" * self.loss


@dataclass(frozen=True)
class Assignment:
    """All chunks of a pipeline of ``pp`` ranks, in chunk order."""

    pp: int
    chunks: tuple[Chunk, ...]

    def of_rank(self, rank: int) -> tuple[Chunk, ...]:
        """The chunks that pipeline rank ``rank`` builds, first virtual stage first."""
        return self.chunks[rank :: self.pp]

    def of_ranks(self) -> tuple[tuple[Chunk, ...], ...]:
        """The chunks of every rank."""
        return tuple(self.of_rank(rank) for rank in range(self.pp))

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(chunk.layers for chunk in self.chunks)

    def layers_of_rank(self, rank: int) -> int:
        return sum(chunk.layers for chunk in self.of_rank(rank))

    def text(self) -> str:
        """The whole assignment in Megatron's layout language."""
        return format_layout([chunk.tokens() for chunk in self.chunks])


def kinds_of(model: ModelSpec, chunk: Chunk) -> Counter[LayerKind]:
    """How many layers of each kind ``chunk`` holds, with those inside its MTP layers."""
    counts = Counter(model.layer_kinds[chunk.start : chunk.stop])
    if chunk.mtp:
        for kind in model.mtp_kinds:
            counts[kind] += chunk.mtp
    return counts


@lru_cache(maxsize=4096)
def assignment_of(model: ModelSpec, pp: int, vpp: int, split: PipelineSplit) -> Assignment | None:
    """The assignment that ``split`` means on ``pp`` ranks of ``vpp`` chunks, or ``None`` if it does not come out.

    >>> from models_catalog.schema import ModelSpec
    >>> tiny = ModelSpec("tiny", num_layers=6, hidden_size=8, num_attention_heads=2, vocab_size=16)
    >>> assignment_of(tiny, 2, 1, PipelineSplit()).text()
    'Et*3|t*3L'
    """
    if split.layout is not None:
        return _from_layout(model, pp, vpp, split.layout)
    sizes = segment_sizes(model) or sizes_of_split(model.num_layers, pp, vpp, split)
    if sizes is None or len(sizes) != pp * vpp or min(sizes) < 0:
        return None
    return from_sizes(model, pp, sizes)


def segment_sizes(model: ModelSpec) -> tuple[int, ...] | None:
    """Layers of each stage as the pipes of a hybrid pattern say, ``None`` where there are none."""
    main = (model.hybrid_override_pattern or "").split("/")[0]
    return tuple(len(segment) for segment in main.split("|")) if "|" in main else None


def from_sizes(model: ModelSpec, pp: int, sizes: tuple[int, ...]) -> Assignment:
    """The assignment with ``sizes[i]`` decoder layers in chunk ``i``, embedding first, MTP and loss last."""
    chunks, start, last = [], 0, len(sizes) - 1
    for i, size in enumerate(sizes):
        chunks.append(Chunk(start, start + size, i == 0, model.mtp_layers if i == last else 0, i == last))
        start += size
    return Assignment(pp, tuple(chunks))


def sizes_of_split(num_layers: int, pp: int, vpp: int, split: PipelineSplit) -> tuple[int, ...] | None:
    """Decoder layers of each chunk under an even, account or first-last split; ``None`` where Megatron would raise.

    Sizes may come out negative where Megatron does not look (first + last > layers): rules speak about that.
    """
    chunks = pp * vpp
    if split.form == "first-last":
        return _first_last_sizes(num_layers, pp, vpp, split)
    counted = num_layers + split.account_for_embedding + split.account_for_loss
    if counted % chunks:
        return None
    sizes = [counted // chunks] * chunks
    sizes[0] -= split.account_for_embedding
    sizes[-1] -= split.account_for_loss
    return tuple(sizes)


def _first_last_sizes(num_layers: int, pp: int, vpp: int, split: PipelineSplit) -> tuple[int, ...] | None:
    given = [count for count in (split.first, split.last) if count is not None]
    rest, stages = num_layers - sum(given), pp - len(given)
    if any(count <= 0 or count % vpp for count in given) or (rest == 0) != (stages == 0) or stages < 0:
        return None
    if stages and (rest % stages or (rest // stages) % vpp):
        return None
    per_rank = [rest // stages if stages else 0] * pp
    if split.first is not None:
        per_rank[0] = split.first
    if split.last is not None:
        per_rank[-1] = split.last
    return tuple(per_rank[i % pp] // vpp for i in range(pp * vpp))


def _from_layout(model: ModelSpec, pp: int, vpp: int, text: str) -> Assignment | None:
    try:
        parsed = parse_layout(text)
    except LayoutSyntaxError:
        return None
    if len(parsed) != pp * vpp or sum(chunk.count("t") for chunk in parsed) != model.num_layers:
        return None
    chunks, start = [], 0
    for tokens in parsed:
        layers = tokens.count("t")
        chunks.append(Chunk(start, start + layers, "E" in tokens, tokens.count("m"), "L" in tokens))
        start += layers
    return Assignment(pp, tuple(chunks))


def simplest_split(model: ModelSpec, assignment: Assignment) -> PipelineSplit:
    """The simplest form in which Megatron can be told ``assignment``: even, then account, then first/last, then layout.

    A hybrid model counts no embedding or loss as a layer. With virtual stages first/last is passed over: Megatron-LM#1584
    reports wrong layer offsets, and its maintainers' answer is the layout string.
    """
    pp, vpp = assignment.pp, len(assignment.chunks) // assignment.pp
    forms = [PipelineSplit()]
    if not model.is_hybrid:
        forms += [
            PipelineSplit(account_for_embedding=True, account_for_loss=True),
            PipelineSplit(account_for_loss=True),
            PipelineSplit(account_for_embedding=True),
        ]
    if vpp == 1 and pp > 1:
        first, last = assignment.sizes[0], assignment.sizes[-1]
        forms += [PipelineSplit(first=first), PipelineSplit(last=last), PipelineSplit(first=first, last=last)]
    for split in forms:
        if sizes_of_split(model.num_layers, pp, vpp, split) == assignment.sizes and _standard_ends(model, assignment):
            return split
    return PipelineSplit(layout=assignment.text())


def simplest_split_of_text(model: ModelSpec, pp: int, chunks: int, layout: str) -> PipelineSplit | None:
    """The simplest form of an assignment that is written out; ``None`` if it does not come out for this model."""
    if chunks % pp:
        return None
    assignment = _from_layout(model, pp, chunks // pp, layout)
    return None if assignment is None else simplest_split(model, assignment)


def _standard_ends(model: ModelSpec, assignment: Assignment) -> bool:
    """True if embedding, MTP and loss sit where Megatron puts them without an explicit layout."""
    return assignment == from_sizes(model, assignment.pp, assignment.sizes)
