"""A change from a judged layout to another, as a person reads it and as JSON holds it. No ortools here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from constraints.layout import PipelineSplit, Recompute

__all__ = ["Change"]

WORDS = {"micro_batch_size": "mbs", "global_batch_size": "gbs", "sequence_parallel": "sp"}


@dataclass(frozen=True)
class Change:
    """``name`` is a decision or a switch, as in a layout; ``was`` its value in the judged layout, ``now`` the new one."""

    name: str
    was: Any
    now: Any

    def __str__(self) -> str:
        """``tp 8 -> 4``."""
        return f"{self.name} {_shown(self.plain_was)} -> {_shown(self.plain_now)}"

    @property
    def typed(self) -> str:
        """The words to type: ``tp=4``, ``mbs=1``, ``recompute=full``, ``first=3 last=4``."""
        if isinstance(self.now, Recompute) and self.now.granularity == "selective":
            return f"recompute_modules={','.join(self.now.modules)}"
        if isinstance(self.now, Recompute):
            return f"recompute={self.now.granularity or 'none'}"
        if isinstance(self.now, PipelineSplit):
            words = _split_words(self.now)
            return f"layout={words}" if self.now.layout is not None else words.lower().replace("even", "an even split")
        return f"{WORDS.get(self.name, self.name)}={_shown(self.plain_now)}"

    @property
    def plain_was(self) -> Any:
        return _plain(self.was)

    @property
    def plain_now(self) -> Any:
        return _plain(self.now)


def _shown(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool | None) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Recompute):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    return _split_words(value) if isinstance(value, PipelineSplit) else value


def _split_words(split: PipelineSplit) -> str:
    """``even``, a layout string, or the words that say it, as in ``first=3 last=4``."""
    if split.layout is not None:
        return split.layout
    words = {
        "first": split.first,
        "last": split.last,
        "account_for_embedding": split.account_for_embedding or None,
        "account_for_loss": split.account_for_loss or None,
    }
    return " ".join(f"{name}={value}" for name, value in words.items() if value is not None) or "even"
