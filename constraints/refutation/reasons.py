"""Why no layout of a box can be the answer: a rule that all of them break, or an objective that none of them betters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from constraints.memory.budget import CAPACITY
from constraints.refutation.bounds import DEAR, excludes, holds_at_the_end
from constraints.refutation.objective import better_at_the_end, no_less_than
from constraints.refutation.partial import Box, Space
from constraints.rule import Rule

__all__ = ["Broken", "NoBetter", "Reason"]


class Reason(Protocol):
    """What closes a leaf of a tree."""

    @property
    def id(self) -> str: ...

    @property
    def what(self) -> str:
        """What it says of the layouts, to follow "to"."""

    @property
    def dear(self) -> bool:
        """True if it costs about a millisecond to ask."""

    @property
    def scope(self) -> tuple[str, ...]:
        """Decisions without which asking again is pointless: where the tree grows it is not asked again."""

    def excludes(self, space: Space, box: Box) -> bool:
        """True if it is shown for every layout of ``box``; false says nothing."""

    def places(self, space: Space, box: Box) -> bool:
        """True if what it says of ``box`` is about every partition of the layers over several stages."""

    def contradicted(self, space: Space, box: Box) -> bool:
        """True if some layout of ``box`` shows that it is not so: :meth:`excludes` would then be wrong."""


@dataclass(frozen=True)
class Broken:
    """Every layout breaks ``rule``."""

    rule: Rule

    @property
    def id(self) -> str:
        return self.rule.id

    @property
    def what(self) -> str:
        return "fail"

    @property
    def dear(self) -> bool:
        return len(self.rule.scope) >= DEAR

    @property
    def scope(self) -> tuple[str, ...]:
        return self.rule.scope

    def excludes(self, space: Space, box: Box) -> bool:
        return excludes(self.rule, space, box)

    def places(self, space: Space, box: Box) -> bool:
        return self.rule.id == CAPACITY and box["pp"] != (1,)

    def contradicted(self, space: Space, box: Box) -> bool:
        return holds_at_the_end(self.rule, space, box)


@dataclass(frozen=True)
class NoBetter:
    """No layout counts as less than ``value``."""

    value: int
    id: str = "objective"
    what: str = "be no better"
    dear: bool = True
    scope: tuple[str, ...] = ()

    def excludes(self, space: Space, box: Box) -> bool:
        return no_less_than(space, box, self.value)

    def places(self, space: Space, box: Box) -> bool:
        return space.problem.objective != "data-parallel" and box["pp"] != (1,)

    def contradicted(self, space: Space, box: Box) -> bool:
        return better_at_the_end(space, box, self.value)
