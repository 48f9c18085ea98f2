"""Layouts with some decisions still open, and rules put to them without being told what they read.

A rule's own ``holds`` is run on a layout that knows some decisions. Where it asks for another one, that one is tried with
each of its values; where it answers without asking, the answer holds for every completion. So nothing that a rule declares
about itself is believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

from constraints.batch_choice import chosen_microbatches
from constraints.layout import BLOCK, GROUPS, WHOLE_LAYERS, Layout, PipelineSplit, Recompute
from constraints.pipeline.assignment import assignment_of, simplest_split_of_text
from constraints.pipeline.placement import place
from constraints.problem import Problem
from constraints.refutation.ranges import Known
from constraints.refutation.space import DEGREES, values_of_decisions, virtual_stages
from constraints.rule import Rule

__all__ = ["DECISIONS", "Box", "Open", "Partial", "Space", "TooMany", "asks_for", "fails_everywhere", "in_groups"]

COUNTED = {"block": BLOCK, "group": GROUPS}
"""Words for full recompute by count, and what stands for it."""
DECISIONS = (*DEGREES, "vpp", "micro_batch_size", "sequence_parallel", "recompute", "num_microbatches")
"""What is decided; batch, split and (where the batch is free) the number of micro-batches follow."""

Box = Mapping[str, tuple[int, ...]]
"""The values that each decision can still take, as integers: ``vpp`` 1 is none, ``recompute`` counts the options."""


class Open(Exception):
    """A rule asks for a decision that is not taken yet."""

    def __init__(self, decision: str) -> None:
        super().__init__(decision)
        self.decision = decision


class TooMany(Exception):
    """More completions than the caller wants to try."""


class Space:
    """Every layout that is considered for a problem: the product of the decisions' values, less what has no shape.

    Recompute of every layer by itself stands for groups of layers as well: no rule but that of memory takes these for
    anything else, and that one is asked about both. Where the user's words are about the count they stand for themselves,
    and so does block recompute, which is else left aside: the first of its counts for all that are left.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        values = values_of_decisions(problem, wide=True)
        self.options = problem.recompute_options
        self.whole = self.options.index(WHOLE_LAYERS)
        self.groups: int | None = self.whole
        if problem.counts_asked:
            self._take_counts()
        values["recompute"] = list(range(len(self.options)))
        if problem.global_batch_size is not None:
            values["num_microbatches"] = values.get("num_microbatches", [1])
        else:
            values.pop("num_microbatches", None)
        self.root: dict[str, tuple[int, ...]] = {name: tuple(values[name]) for name in DECISIONS if name in values}
        self._stages: dict[int, frozenset[int]] = {}
        self.known = Known()
        pairs = [self.stages(pp) for pp in self.root["pp"]]
        self.root["vpp"] = tuple(v for v in self.root["vpp"] if any(v in pair for pair in pairs))

    def _take_counts(self) -> None:
        """Add what stands for recompute by count where the words leave some."""
        left = self.problem.left_by_words(self.problem.counted(1))
        blocks, groups = ([option for option in left if bool(option.first) is block] for block in (True, False))
        if WHOLE_LAYERS not in self.problem.left_by_words([WHOLE_LAYERS]) or not groups:
            self.groups = len(self.options) if groups else None
            self.options += tuple(groups[:1])
        self.options += tuple(blocks[:1])

    def stages(self, pp: int) -> frozenset[int]:
        """The ``vpp`` that are considered on ``pp`` ranks."""
        if pp not in self._stages:
            longest = max(1, self.problem.model.num_layers)
            self._stages[pp] = frozenset(virtual_stages(self.problem, pp, range(1, longest + 1)))
        return self._stages[pp]

    def narrowed(self, box: Box, decision: str, *values: int) -> dict[str, tuple[int, ...]]:
        """The part of ``box`` in which ``decision`` has one of ``values``."""
        inner = dict(box)
        inner[decision] = values
        if decision == "pp":
            inner["vpp"] = tuple(v for v in inner["vpp"] if any(v in self.stages(pp) for pp in values))
        return inner

    def group_sizes(self, box: Box) -> range:
        """Sizes of the groups of layers that ``box`` stands for."""
        if self.groups is None or self.groups not in box["recompute"]:
            return range(0)
        chunks = (pp * vpp for pp in box["pp"] for vpp in box["vpp"] if vpp in self.stages(pp))
        sizes = self.problem.group_sizes(min(chunks, default=1))
        if self.groups == self.whole:
            return sizes
        asked = self.options[self.groups].group
        return range(asked, asked + (asked in sizes))

    def without_groups(self, box: Box) -> Box | None:
        """The part of ``box`` that is not groups alone; ``None`` if there is none."""
        left = [option for option in box["recompute"] if option == self.whole or option != self.groups]
        return self.narrowed(box, "recompute", *left) if left else None

    def stood_for(self, layout: Layout) -> tuple[Layout, ...]:
        """The layouts that ``layout``, of the space, stands for, but for groups that layers one by one stand for."""
        if not layout.recompute.by_chunk:
            return (layout,)
        left = self.problem.left_by_words(self.problem.counted(layout.pp * layout.chunks_per_rank))
        return tuple(replace(layout, recompute=one) for one in left if one.method == layout.recompute.method)

    def group_sizes_at(self, point: Mapping[str, int]) -> range:
        """The same for a single choice of all decisions."""
        return self.group_sizes({name: (value,) for name, value in point.items()})

    def layout(self, point: Mapping[str, Any]) -> Layout:
        """The layout in which every decision is taken. Raises ``ValueError`` if the space has no such layout.

        ``pipeline``, where it is given, says where the layers are, in Megatron's layout language; ``block``, that so many
        layers of each chunk are recomputed in place of all; ``group``, that they are in groups of so many.
        """
        names = [name for name in DECISIONS if name in self.root]
        if set(point) - {"pipeline", *COUNTED} != set(names):
            raise ValueError("a layout of the space takes every decision and no other")
        for name in names:
            if point[name] not in self.root[name]:
                raise ValueError(f"{name}={point[name]} is not considered")
        if point["vpp"] not in self.stages(point["pp"]):
            raise ValueError(f"vpp={point['vpp']} is not considered on pp={point['pp']}")
        partial = Partial(self, point)
        return Layout(
            **{name: point[name] for name in (*DEGREES, "micro_batch_size")},
            vpp=partial.vpp,
            sequence_parallel=partial.sequence_parallel,
            num_microbatches=partial.num_microbatches,
            global_batch_size=partial.global_batch_size,
            gpus=self.problem.gpus,
            split=self._split_said(point) if "pipeline" in point else partial.split,
            recompute=self._count_said(point, partial.recompute),
            settings=self.problem.settings,
        )

    def _count_said(self, point: Mapping[str, Any], recompute: Recompute) -> Recompute:
        for word, stand_in in COUNTED.items():
            if word in point:
                said = replace(stand_in, num_layers=point[word])
                if recompute != WHOLE_LAYERS or said not in self.problem.counted(1):
                    raise ValueError(f"{word}={point[word]} is not considered here")
                recompute = said
        return recompute

    def _split_said(self, point: Mapping[str, Any]) -> PipelineSplit:
        chunks = point["pp"] * point["vpp"]
        split = simplest_split_of_text(self.problem.model, point["pp"], chunks, point["pipeline"])
        if split is None:
            raise ValueError("its pipeline is no layout string for these stages")
        return split

    def point(self, layout: Layout) -> dict[str, Any]:
        """The decisions of a layout of the space; with its pipeline where that is another than the usual one."""
        out: dict[str, Any] = {name: getattr(layout, name) for name in (*DEGREES, "micro_batch_size")}
        out |= {"vpp": layout.vpp or 1, "sequence_parallel": int(layout.sequence_parallel)}
        counted = layout.recompute.by_chunk
        out["recompute"] = self.options.index(WHOLE_LAYERS if counted else layout.recompute)
        if counted:
            out["block" if layout.recompute.first else "group"] = layout.recompute.num_layers
        if "num_microbatches" in self.root:
            out["num_microbatches"] = layout.num_microbatches
        if layout.split != Partial(self, out).split:
            assignment = assignment_of(self.problem.model, layout.pp, layout.chunks_per_rank, layout.split)
            if assignment is not None:
                out["pipeline"] = assignment.text()
        return out


def in_groups(layout: Layout, size: int) -> Layout:
    """``layout`` with uniform recompute in groups of ``size`` layers."""
    return replace(layout, recompute=replace(GROUPS, num_layers=size))


class Partial:
    """What ``holds`` reads of a layout, from a few decisions; anything else raises :class:`Open`."""

    def __init__(self, space: Space, taken: Mapping[str, int]) -> None:
        problem = space.problem
        self._space, self._problem, self._taken = space, problem, taken
        self.settings, self.gpus = problem.settings, problem.gpus
        self.__dict__.update(taken)  # what has another form in a layout is a property, which goes before

    def kept_by(self, rule: Rule) -> bool:
        """Whether ``rule`` holds, if what is decided is enough to say so. Raises :class:`Open` for the first thing that is
        not: a rule reads a layout by its attributes alone, and every one of them is here or open."""
        return rule.holds(self._problem, cast(Layout, self))

    def __getattr__(self, name: str) -> Any:
        raise Open(name)

    @property
    def vpp(self) -> int | None:
        if "vpp" not in self._taken:
            raise Open("vpp")
        return self._taken["vpp"] if self._taken["vpp"] > 1 else None

    @property
    def sequence_parallel(self) -> bool:
        if "sequence_parallel" not in self._taken:
            raise Open("sequence_parallel")
        return bool(self._taken["sequence_parallel"])

    @property
    def recompute(self) -> Recompute:
        if "recompute" not in self._taken:
            raise Open("recompute")
        return self._space.options[self._taken["recompute"]]

    recompute_layers, recompute_group = Layout.recompute_layers, Layout.recompute_group

    @property
    def num_microbatches(self) -> int:
        if self._problem.global_batch_size is not None:
            if "num_microbatches" not in self._taken:
                raise Open("num_microbatches")
            return self._taken["num_microbatches"]
        multiple = self.microbatch_group if self.interleaved else 1
        return chosen_microbatches(self._problem.target_sequences, self.dp, self.micro_batch_size, multiple)

    @property
    def global_batch_size(self) -> int:
        if self._problem.global_batch_size is not None:
            return self._problem.global_batch_size
        size: int = self.num_microbatches * self.dp * self.micro_batch_size
        return size

    @property
    def split(self) -> PipelineSplit:
        pp: int = self.pp
        placed = place(self._problem.model, pp, self.vpp or 1)
        return placed[1] if placed is not None else PipelineSplit()

    chunks_per_rank = Layout.chunks_per_rank
    sequence_shards = Layout.sequence_shards
    stage_gpus = Layout.stage_gpus

    @property
    def interleaved(self) -> bool:
        return self.vpp is not None and bool(self.pp > 1)

    @property
    def microbatch_group(self) -> int:
        group: int = self.settings.microbatch_group(self.pp)
        return group


def fails_everywhere(rule: Rule, space: Space, box: Box, most: int) -> bool:
    """True if ``rule`` holds on no completion of ``box``. Raises :class:`TooMany` after ``most`` questions to the rule."""
    left = most

    def fails(taken: dict[str, int]) -> bool:
        nonlocal left
        left -= 1
        if left < 0:
            raise TooMany
        try:
            return not Partial(space, taken).kept_by(rule)
        except Open as asked:
            name = asked.decision
        if name == "vpp" and "pp" not in taken:
            name = "pp"  # which virtual stages are considered depends on it
        if name not in box:
            raise AttributeError(f"{rule.id} reads {name}, which is no decision")
        return all(fails({**taken, name: value}) for value in _values(space, box, taken, name))

    return fails({name: values[0] for name, values in box.items() if len(values) == 1 and name != "vpp"})


def asks_for(rule: Rule, space: Space) -> set[str]:
    """Decisions that the rule asks for on one way through it."""
    taken: dict[str, int] = {}
    while True:
        try:
            Partial(space, taken).kept_by(rule)
            return set(taken)
        except Open as asked:
            taken[asked.decision] = space.root[asked.decision][-1]


def _values(space: Space, box: Box, taken: Mapping[str, int], name: str) -> Iterable[int]:
    if name != "vpp":
        return box[name]
    return [value for value in box["vpp"] if value in space.stages(taken["pp"])]
