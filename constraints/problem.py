"""A problem: a request with every name resolved to integers, each value knowing where it came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from constraints.layout import BLOCK, GROUPS, WHOLE_LAYERS, Layout, Recompute, Settings
from constraints.partition.kinds import runs_of
from constraints.timing.calibration import NEWEST_STACK, Calibration

if TYPE_CHECKING:
    from constraints.rule import Rule
    from models_catalog.schema import GpuSpec, ModelSpec

__all__ = ["DEFAULT", "GIB", "TARGET_TOKENS", "Origin", "Problem"]

GIB = 1 << 30

TARGET_TOKENS = 4 * (1 << 20)
"""Tokens per optimizer step that a batch is chosen to come near to, when the request gives none (4 Mi, stated)."""

MICRO_BATCH_SIZES = (1, 2, 3, 4, 6, 8)
"""Micro-batch sizes that the solver considers unless one is pinned. Never the reason for "no layout": size 1 asks least."""


@dataclass(frozen=True)
class Origin:
    """Where a value came from: ``kind`` is flag, file, layout, catalog, default or derived; ``where`` names the place."""

    kind: str
    where: str = ""

    def __str__(self) -> str:
        return self.where or self.kind


DEFAULT = Origin("default", "default")


@dataclass(frozen=True)
class Problem:
    """What is asked, in integers. Sizes in bytes, rates in bytes per second; ``global_batch_size`` ``None`` is "free".

    ``nvlink_domain`` and ``gpus_per_node`` place ranks: rank r sits on node ``r // gpus_per_node`` and in NVLink domain
    ``r // nvlink_domain``. ``pins`` and ``limits`` are rules of stratum ``pin``, made from the user's own words.
    """

    model: ModelSpec
    gpu: GpuSpec
    gpus: int
    gpus_per_node: int
    nvlink_domain: int
    budget_bytes: int
    seq_length: int
    global_batch_size: int | None = None
    precision: str = "bf16"
    task: str = "pretrain"
    objective: str = "communication"
    megatron: str = "0.20"
    settings: Settings = field(default_factory=Settings)
    pins: tuple[Rule, ...] = ()
    relaxed: frozenset[str] = frozenset()
    allow_idle: bool = False
    allow_borderline: bool = False
    imbalance_percent: int = 100
    expandable_segments: bool = True
    transformer_engine: tuple[int, int] = (2, 20)
    stack: str = NEWEST_STACK
    calibration: Calibration | None = None
    origins: Mapping[str, Origin] = field(default_factory=dict)

    def origin(self, name: str) -> Origin:
        """Where the value called ``name`` came from. Model fields come from the catalog unless said otherwise."""
        if name in self.origins:
            return self.origins[name]
        if hasattr(self.model, name):
            return self.origins.get("model", Origin("catalog", self.model.name))
        return DEFAULT

    def pinned(self, decision: str) -> bool:
        """True if the user pinned ``decision`` (named as in :class:`~constraints.layout.Layout`)."""
        return any(decision in pin.scope for pin in self.pins)

    @property
    def target_sequences(self) -> int:
        """Sequences per step nearest to :data:`TARGET_TOKENS`, at least 1."""
        return max(1, round(TARGET_TOKENS / self.seq_length))

    @property
    def recompute_options(self) -> tuple[Recompute, ...]:
        """What the solver may recompute, least first. Module names are those that Megatron accepts for this model.

        ``core_attn`` is left out: with fused attention it frees next to nothing (only the log-sum-exp). Block recompute
        and uniform recompute in groups come beside (:meth:`counted`).
        """
        model = self.model
        light, heavy = [], []
        if model.is_moe:
            light += ["layernorm", "moe_act"]
            heavy += ["layernorm", "moe"]
        if model.multi_latent_attention:
            light.append("mla_up_proj")
            heavy.append("mla_up_proj")
        if model.has_dense_feedforward:
            heavy.append("mlp")
        options = [Recompute()]
        for modules in (light, heavy):
            if modules:
                options.append(Recompute("selective", modules=tuple(modules)))
        options.append(WHOLE_LAYERS)
        return tuple(options)

    def counted(self, chunks: int) -> tuple[Recompute, ...]:
        """Full recompute by count as it is weighed on a pipeline of so many chunks, wherever the layers go: block, with every
        count that leaves a layer alone, and uniform, in groups that a mean chunk holds. None where layers of different kinds
        alternate.

        Block takes less time than layer by layer and needs more memory; groups take as long, and need less memory where many
        inputs are alive.
        """
        if runs_of(self.model) is None:
            return ()
        longest = -(-self.model.num_layers // chunks)
        blocks = (replace(BLOCK, num_layers=count) for count in range(1, longest))
        return (*blocks, *(replace(GROUPS, num_layers=size) for size in self.group_sizes(chunks)))

    @property
    def weighs_counts(self) -> bool:
        """False where recompute by count is left aside unless nothing else fits: under communication it is seldom of use, and
        to know that takes several times the search. What the user says of the count is weighed."""
        return self.objective != "communication" or self.counts_asked

    @property
    def counts_asked(self) -> bool:
        """True if the user's words are about the method or the count of full recompute."""
        return any(pin.asks_count for pin in self.pins)

    def left_by_words(self, options: Iterable[Recompute]) -> tuple[Recompute, ...]:
        """Those of ``options`` that go as the user's words about method and count say."""
        words = [pin for pin in self.pins if pin.asks_count]
        return tuple(option for option in options if all(word.holds(self, Layout(recompute=option)) for word in words))

    def group_sizes(self, chunks: int) -> range:
        """Sizes of groups of several layers that uniform recompute may go in, on a pipeline of so many chunks; none with MTP
        layers, which Megatron recomputes one by one only."""
        if runs_of(self.model) is None or self.model.mtp_layers:
            return range(0)
        return range(2, -(-self.model.num_layers // chunks) + 1)

    def recompute_level(self, recompute: Recompute) -> tuple[int, int]:
        """The place of ``recompute`` among what may be recomputed, least first: block by count before uniform, layer by layer
        before groups by size."""
        options = self.recompute_options
        last = len(options) - 1
        if recompute.first:
            return last, recompute.first
        return (last + 1, recompute.group) if recompute.is_uniform else (options.index(recompute), 0)

    @property
    def uses_fp8(self) -> bool:
        return self.precision.startswith(("fp8", "nvfp4"))
