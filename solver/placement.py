"""Where the layers go, as variables: what the ends of the pipeline hold, and the most that a rank between them holds.

Layers are placed together with the degrees, but not rank by rank. The first and the last rank hold what no other does; of
the ranks between, the one with most layers paces the step, and early ones keep most micro-batches alive. So they are taken
in parts of neighbours, each with the most layers that one of its ranks holds, kept alive as on the latest of them. Every
placement is one of these, and none takes less time or memory than is said here. For fixed degrees
:mod:`constraints.partition` then finds the best placement; where it is worse than promised, :meth:`Placement.refine` looks
closer at pipelines of that length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from constraints.partition.kinds import ends_with, fewest_beside, fewest_in_windows, runs_of, starts_with
from constraints.partition.parts import BETWEEN, Part, fine_parts
from constraints.partition.rank import Rank
from constraints.partition.windows import heaviest_windows
from constraints.pipeline.schedule import STEADY_GROUPS
from constraints.timing.crossing import usual_length
from models_catalog.schema import LayerKind, ModelSpec
from solver.alike import Alike
from solver.counted import Blocks, Groups
from solver.in_flight import InFlight

if TYPE_CHECKING:
    from solver.model import Model

__all__ = ["Held", "Placement"]

Quantity = Any
Held = tuple[Any, tuple[Any, ...]]
"""A stage or rank, and the conditions under which it is there."""
Counts = dict[LayerKind, Quantity]


class Placement:
    """The variables of a placement in one model, and the ranks that they describe."""

    def __init__(self, model: Model) -> None:
        self.model, self.a, self.x = model, model.arithmetic, model.x
        self.spec: ModelSpec = model.problem.model
        self.runs = runs_of(self.spec)
        self.kinds = sorted(set(self.spec.layer_kinds)) if self.runs is None else [self.runs.common]
        self.refined: set[int] = set()
        self.ranks: list[Rank] = []
        self.crowded: list[Rank] = []
        self.crossing: list[Rank] = []
        self.slowest: Rank | None = None
        if any(shape.dealt or shape.steady for shape, _ in model.shapes):
            self.steady = self._groups_done(STEADY_GROUPS, "steady")
        if not any(shape.dealt for shape, _ in model.shapes):
            return
        self.free = model.one_of(lambda shape: shape.dealt)
        self.works = model.every_rank_works and all(shape.pp <= self.spec.num_layers for shape, _ in model.shapes)
        self.begun = self._groups_done(1, "begun")
        self.alive = InFlight(self)
        self.first, self.last = self._end("first"), self._end("last")
        self.early = self._early_on_first()
        self.alike = Alike(self)
        self.most = self.a.variable(range(self.spec.num_layers + 1), "layers[most]")
        self.blocks, self.groups = Blocks(self), Groups(self)
        self._first_rank()
        self._last_rank()
        self.crossing = self.alike.ends() if self.alike.asked else []
        self._share(BETWEEN, [(shape, literal) for shape, literal in model.shapes if shape.dealt])
        self._slowest_between()
        if self.runs is None:
            self._crowded_between()
        elif not model.explain:
            self._crowded()

    # -- what formulas are put to

    def holding(self) -> Iterator[Held]:
        """What ranks hold at least."""
        yield from self._fixed(lambda shape: shape.stages)
        for stage, conditions in self._fixed(lambda shape: shape.steady):
            yield stage, (*conditions, self.steady)
        for rank in self.ranks:
            yield rank, rank.conditions

    def pacing(self) -> Iterator[Held]:
        """What the slowest rank may be."""
        yield from self._fixed(lambda shape: shape.slowest)
        for rank in self.ranks:
            if rank.embedding or rank.loss:
                yield rank, (self.free,)
        for rank in self.crowded:
            yield rank, rank.conditions
        if self.slowest is not None:
            yield self.slowest, self.slowest.conditions

    def in_step(self) -> Iterator[Held]:
        """The ends of an interleaved pipeline, with what their chunks wait for."""
        for rank in self.crossing:
            yield rank, rank.conditions

    def crowd(self) -> tuple[LayerKind, Quantity]:
        """The most common kind of layer, and ``pp`` times as many as some rank holds of it, or as an end waits for."""
        kind, count = Counter(self.spec.layer_kinds).most_common(1)[0]

        def on_some(shape: Any) -> int:
            waits = shape.pp > 1 and shape.chunks > 1 and self.runs is not None and self.runs.common == kind
            usual = usual_length(self.spec.num_layers, shape.pp, shape.chunks) if waits else 0
            held: int = max(-(-count // shape.pp), usual * shape.chunks)
            return held

        return kind, self.model.by_shape(lambda shape: on_some(shape) * shape.pp)

    def refine(self, pp: int) -> list[Rank]:
        """Cut the ranks of pipelines of ``pp`` into more parts; the ranks that are new, none the second time."""
        known, shapes = len(self.ranks), [(s, lit) for s, lit in self.model.shapes if s.pp == pp and s.dealt]
        if pp not in self.refined and pp > len(BETWEEN) + 2 and shapes:
            self._share(fine_parts(pp), shapes)
        self.refined.add(pp)
        return self.ranks[known:]

    def _fixed(self, stages_of: Callable[[Any], Iterable[Any]]) -> Iterator[Held]:
        for shape, literal in self.model.shapes:
            for stage in stages_of(shape):
                yield stage, (literal,)

    # -- variables

    def _end(self, name: str) -> Any:
        """Layers on the first rank, or of the body on the last."""
        count = self.a.variable(range(self.spec.num_layers + 1), f"layers[{name}]")
        self.model.cp.add(count.expression() == 0).only_enforce_if(self.free.negated())
        if self.model.every_rank_works:
            for shape, literal in self.model.shapes:
                empty = name == "last" and self.may_be_early_on_last(shape)
                if 1 < shape.pp <= self.spec.num_layers and shape.dealt and not empty:
                    self.model.cp.add(count.expression() >= 1).only_enforce_if(literal)
        return count

    def _groups_done(self, groups: int, name: str) -> Any:
        """The condition that a step has so many groups of micro-batches."""
        condition = self.model.cp.new_bool_var(name)
        left = (self.x.num_microbatches - self.model.group_of(self.x.pp) * groups).expression()
        self.model.cp.add(left >= 0).only_enforce_if(condition)
        self.model.cp.add(left <= -1).only_enforce_if(condition.negated())
        return condition

    def _early_on_first(self) -> Any:
        """Layers of the model's first run on the first rank: as many as its first chunk holds."""
        if self.runs is None or self.runs.prefix == 0:
            return 0
        count = self.a.variable(range(self.runs.prefix + 1), "early layers[first]")
        self.model.cp.add(count.expression() <= self.first.expression())
        whole = self.a.minimum(self.runs.prefix, self.a.floor_div(self.first, self.x.vpp))
        self.model.cp.add(count.expression() >= whole.expression())
        return count

    def may_be_early_on_last(self, shape: Any) -> bool:
        """True if the last rank may hold no layer of the body: its first chunk all that it has, of the first run.

        A rank with ``n`` layers has ``n // vpp`` in its first chunk at least, and those before have not all of the run there.
        """
        if self.runs is None or self.runs.prefix == 0 or shape.chunks == 1:
            return False
        before = (self.runs.prefix - 1) * shape.chunks + (shape.pp - 1) * (shape.chunks - 1)
        return bool(self.spec.num_layers <= before + self.runs.prefix)

    def _share(self, parts: tuple[Part, ...], shapes: list[tuple[Any, Any]]) -> None:
        """Let the ranks between the ends of ``shapes`` hold what the ends do not, in ``parts``."""
        body = self.runs.body if self.runs is not None else self.spec.num_layers
        ends = self.first - self.early + self.last
        made = [(part, *self._part(part, shapes)) for part in parts]
        if self.runs is not None and self.runs.prefix:
            early = sum((early for *_, early in made), start=self.early)
            self.model.cp.add(early.expression() <= self.runs.prefix)
        spare = self.alike.spare(made, shapes) if self.alike.asked else 0
        for shape, literal in shapes:
            total = ends + spare
            for part, count, _ in made:
                total = total + count * part.size(shape.pp)
            constraint = total.expression() == body if self.spec.is_hybrid else total.expression() >= body
            self.model.cp.add(constraint).only_enforce_if(literal)

    def _part(self, part: Part, shapes: list[tuple[Any, Any]]) -> tuple[Any, Any]:
        """The most layers of the body that a rank of ``part`` holds, and those of the first run beside them, as far as that
        is looked at."""
        there = [literal for shape, literal in shapes if part.size(shape.pp)]
        if not there:
            return self.a.variable((0,), f"layers[{part.name}]"), 0
        within = self.model.any_of(there, part.name)
        count, early = self.alike.part(part, shapes) if self.alike.asked else (self.count(f"layers[{part.name}]"), 0)
        self.model.cp.add(count.expression() == 0).only_enforce_if(within.negated())
        self.model.cp.add((self.most - count).expression() >= 0)
        if self.spec.is_hybrid:  # the form with first and last counts gives all others the same
            self.model.cp.add((self.most - count).expression() == 0).only_enforce_if(within)
        self._rank_between(part, count, within)
        return count, early

    def count(self, name: str) -> Any:
        """Layers, none of them to all."""
        return self.a.variable(range(self.spec.num_layers + 1), name)

    # -- ranks

    def _first_rank(self) -> None:
        boundaries, runs = self.x.vpp * 2 - 1, self.runs
        if runs is None:
            counts = {kind: self.a.lookup(_starting(kind), self.model.problem, self.first) for kind in self.kinds}
            lives = {kind: self.alive.layers(n, lambda pp: 0, f"first {kind}") for kind, n in counts.items()}
            self._add(counts, lives, [((), (self.free,))], boundaries=boundaries, embedding=True)
            return
        body, live = self.first - self.early, self.alive.layers(self.first, lambda pp: 0, "first")
        counts, lives = {runs.common: body}, {runs.common: live}
        fewest: Any = 0
        certain: list[tuple[tuple[LayerKind, ...], tuple[Any, ...]]] = [((), (self.free,))]
        some = self.model.positive(body, "body[first]")
        if runs.prefix:
            fewest, most = self.alive.in_first_run()
            counts = {runs.early: self.early, **counts}
            later = self.a.maximum(0, live - self.a.mul(self.early, most))
            lives = {runs.early: self.a.mul(self.early, fewest), runs.common: later}
            sure = self.model.positive(self.early, "early[first]")
            certain.append(((runs.early, runs.common), (self.free, some, sure)))
        elif self.works:
            certain = [((runs.common,), (self.free,))]
        else:
            certain.append(((runs.common,), (self.free, some)))
        self._add(counts, lives, certain, self.blocks.on_first(lives, fewest), boundaries=boundaries, embedding=True)

    def _last_rank(self) -> None:
        counts = {kind: self._ending(kind) for kind in self.kinds}
        lives = {kind: self.alive.layers(n, lambda pp: pp - 1, f"last {kind}") for kind, n in counts.items()}
        certain = self._certain(self.last, self.free, works=self.works)
        unsure = [literal for shape, literal in self.model.shapes if shape.dealt and self.may_be_early_on_last(shape)]
        if self.works and unsure:
            bare = self.model.any_of(unsure, "early on last")
            certain = [((), (bare,)), *((kinds, (*when, bare.negated())) for kinds, when in certain)]
        again = self.blocks.on_last(lives)
        for kind in self.spec.mtp_kinds if self.spec.mtp_layers else ():
            counts[kind] = counts.get(kind, 0) + self.spec.mtp_layers
            lives[kind] = lives.get(kind, 0) + self.spec.mtp_layers
        ends = {"boundaries": self.x.vpp * 2 - 1, "loss": True, "mtp": self.spec.mtp_layers}
        self._add(counts, lives, certain, again, **ends)

    def _rank_between(self, part: Part, count: Any, within: Any) -> None:
        counts = self._anywhere(count, part.name)
        lives = {kind: self.alive.layers(n, part.latest, f"{part.name} {kind}") for kind, n in counts.items()}
        again = self.blocks.on(count, sum(lives.values()), self.x.vpp, part.latest)
        self._add(counts, lives, self._certain(count, within), again, boundaries=self.x.vpp * 2)

    def _slowest_between(self) -> None:
        known = self.spec.is_hybrid and not self.model.explain
        counts = self._heaviest() if known else self._anywhere(self.most, "slowest")
        deep = self.model.at_least("pp", 3)
        twice, _ = self.blocks.on(self.most, 0, self.x.vpp, lambda pp: 0)
        again = tuple(twice.items())
        self.slowest = Rank(tuple(counts.items()), (), (), (self.free, deep), self.x.vpp * 2, twice=again)

    def _crowded(self) -> None:
        """Some rank holds the mean number of layers at least, kept alive as on the last: implied, and known long before the
        layers are placed."""
        runs = self.runs
        assert runs is not None, "layers that alternate are not alike"
        mean = self.model.by_shape(lambda shape: -(-runs.body // shape.pp))
        count = self.a.variable([mean], "layers[mean]") if isinstance(mean, int) else mean
        live = self.alive.layers(count, lambda pp: pp - 1, "mean")
        again = self.blocks.on(count, live, self.blocks.full_chunks(), lambda pp: pp - 1)
        certain = [((runs.common,), (self.free,))]
        self._add({runs.common: count}, {runs.common: live}, certain, again, boundaries=self.x.vpp * 2)

    def _heaviest(self) -> Counts:
        """What a rank between the ends of a hybrid model's pipeline holds, by kind: all of them hold as many layers one after
        another, and of those the one that is mostly slowest is taken."""
        pps = sorted({shape.pp for shape, _ in self.model.shapes if not shape.stages and shape.pp > 2})
        rows = [row for pp in pps for row in heaviest_windows(self.model.problem, pp, tuple(self.kinds))]
        counts = {
            kind: self.a.variable({0, *(row[3 + i] for row in rows)}, f"heaviest {kind}")
            for i, kind in enumerate(self.kinds)
        }
        columns = [quantity.expression() for quantity in (self.x.pp, self.first, self.most, *counts.values())]
        deep = self.model.at_least("pp", 3)
        self.model.cp.add_allowed_assignments(columns, rows).only_enforce_if([self.free, deep])
        return counts

    def _crowded_between(self) -> None:
        """Of each kind of layer some rank between the ends holds the mean at least, and what lies between layers of it."""
        deep = self.model.at_least("pp", 3)
        for kind in self.kinds:
            on_first = self.a.lookup(_starting(kind), self.model.problem, self.first)
            between = self.spec.layer_kinds.count(kind) - on_first - self._ending(kind)
            most = self.a.variable(range(self.spec.num_layers + 1), f"most {kind}")
            missing = between - self.a.mul(most, self.x.pp - 2)
            self.model.cp.add(missing.expression() <= 0).only_enforce_if([self.free, deep])
            counts = {
                other: most if other == kind else self.a.lookup(_beside(kind, other), self.model.problem, most)
                for other in self.kinds
            }
            lives = {
                other: self.alive.layers(n, lambda pp: max(0, pp - 2), f"most {kind}") for other, n in counts.items()
            }
            self._add(counts, lives, [((), (self.free, deep))], boundaries=self.x.vpp * 2)
            self.crowded.append(self.ranks[-1])

    def _add(
        self,
        counts: Counts,
        lives: Counts,
        certain: Iterable[tuple[Any, Any]],
        again: tuple[Mapping[LayerKind | None, Quantity], Counts] = ({}, {}),
        **fields: Any,
    ) -> None:
        """The rank once for each set of kinds that it holds under some conditions."""
        fields |= {"twice": tuple(again[0].items()), "twice_live": tuple(again[1].items())}
        if self.groups.decided:
            layers = sum(counts.values()) - fields.get("mtp", 0)
            fields["longest"], lives = self.groups.longest(layers), self.groups.inputs(lives)
        for kinds, conditions in certain:
            self.ranks.append(Rank(tuple(counts.items()), tuple(lives.items()), kinds, conditions, **fields))

    def _certain(
        self, count: Any, there: Any, *, works: bool = False
    ) -> list[tuple[tuple[LayerKind, ...], tuple[Any, ...]]]:
        """The common kind is on a rank that holds any layer."""
        if self.runs is None:
            return [((), (there,))]
        if works:
            return [((self.runs.common,), (there,))]
        return [((), (there,)), ((self.runs.common,), (there, self.model.positive(count, "some layer")))]

    # -- counts

    def _ending(self, kind: LayerKind) -> Any:
        """Layers of ``kind`` on the last rank."""
        return self.last if self.runs else self.a.lookup(_finishing(kind), self.model.problem, self.last)

    def _anywhere(self, count: Any, name: str) -> Counts:
        """Layers of each kind that ``count`` consecutive layers may be: together so many, of each as few as there can be."""
        if self.runs:
            return {self.runs.common: count}
        counts: Counts = {}
        for kind in self.kinds:
            counts[kind] = self.a.variable(range(self.spec.num_layers + 1), f"{kind}[{name}]")
            fewest = self.a.lookup(_passing(kind), self.model.problem, count)
            self.model.cp.add((counts[kind] - fewest).expression() >= 0)
        self.model.cp.add((sum(counts.values()) - count).expression() == 0)
        return counts


@lru_cache(maxsize=256)
def _starting(kind: LayerKind) -> Callable[..., int]:
    return lambda problem, count: starts_with(problem.model, kind, count)


@lru_cache(maxsize=256)
def _finishing(kind: LayerKind) -> Callable[..., int]:
    return lambda problem, count: ends_with(problem.model, kind, count)


@lru_cache(maxsize=256)
def _passing(kind: LayerKind) -> Callable[..., int]:
    return lambda problem, count: fewest_in_windows(problem.model, kind, count)


@lru_cache(maxsize=256)
def _beside(kind: LayerKind, other: LayerKind) -> Callable[..., int]:
    return lambda problem, count: fewest_beside(problem.model, kind, other, count)
