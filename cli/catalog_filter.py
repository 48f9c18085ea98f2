"""Which entries of the catalog a person wants to see."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from constraints.errors import RequestError
from constraints.problem import Origin

__all__ = ["Filter", "has_delta_net", "parameter_count"]

_COUNT = re.compile(r"(\d{1,18}(?:\.\d{1,6})?)\s*([kmbt]?)", re.IGNORECASE)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}


@dataclass(frozen=True)
class Filter:
    """The options of ``catalog models`` and ``catalog gpus``; ``None`` and ``False`` ask for nothing."""

    family: str | None = None
    moe: bool | None = None
    mla: bool = False
    hybrid: bool = False
    min_params: str | None = None
    max_params: str | None = None
    search: str | None = None

    def of(self, entries: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
        """The entries that are wanted. Raises :class:`~constraints.errors.RequestError` for a wrong option."""
        least = parameter_count("--min-params", self.min_params, 0)
        most = parameter_count("--max-params", self.max_params, 10**18)
        families = self._families({entry.get("family") or "" for entry in entries.values()})
        return [
            entry
            for entry in entries.values()
            if (families is None or entry.get("family") in families)
            and (self.moe is None or bool(entry.get("num_moe_experts")) is self.moe)
            and (not self.mla or bool(entry.get("multi_latent_attention")))
            and (not self.hybrid or _is_hybrid(entry))
            and ((self.min_params is None and self.max_params is None) or least <= _total(entry) <= most)
            and (self.search is None or all(word in _words(entry) for word in _plain(self.search).split("-") if word))
        ]

    def _families(self, known: set[str]) -> set[str] | None:
        """The family of that name, else all whose names begin with it."""
        if self.family is None:
            return None
        wanted = {_plain(name): name for name in known}
        exact = wanted.get(_plain(self.family))
        if exact is not None:
            return {exact}
        begun = {name for plain, name in wanted.items() if plain.startswith(_plain(self.family))}
        if begun:
            return begun
        import difflib

        close = difflib.get_close_matches(_plain(self.family), list(wanted), n=3)
        hint = (
            f"did you mean {', '.join(wanted[c] for c in close)}?" if close else f"there are {', '.join(sorted(known))}"
        )
        raise RequestError("family", self.family, Origin("flag", "--family"), f"is no family of the catalog; {hint}")


def parameter_count(option: str, word: str | None, default: int) -> int:
    """``70b``, ``1.5T``, ``500m`` or a plain number. Raises :class:`~constraints.errors.RequestError`."""
    if word is None:
        return default
    matched = _COUNT.fullmatch(word.strip())
    if matched is None:
        name = option.removeprefix("--").replace("-", "_")
        raise RequestError(name, word, Origin("flag", option), "must be a number of parameters, as in 70b or 1.5t")
    number, unit = matched.groups()
    whole, _, fraction = number.partition(".")
    scale = _UNITS[unit.lower()]
    return int(whole) * scale + int(fraction or "0") * scale // int("1" + "0" * len(fraction))


def _is_hybrid(entry: Mapping[str, Any]) -> bool:
    return bool(entry.get("hybrid_override_pattern")) or has_delta_net(entry)


def has_delta_net(entry: Mapping[str, Any]) -> bool:
    """Whether some of the entry's attention layers are gated delta nets."""
    variant = entry.get("experimental_attention_variant")
    if variant is None:
        return False
    from models_catalog.schema import GATED_DELTA_NET

    return variant in GATED_DELTA_NET


def _total(entry: Mapping[str, Any]) -> int:
    if entry.get("total_parameters"):
        return int(entry["total_parameters"])
    from constraints.memory.counts import parameter_counts
    from models_catalog.loader import model_fields
    from models_catalog.schema import ModelSpec

    total, _ = parameter_counts(ModelSpec(**model_fields(dict(entry), entry["name"])))
    return total


def _words(entry: Mapping[str, Any]) -> str:
    """Everything that an entry is called, and what its note says."""
    names = (
        entry["name"],
        entry.get("hf_id"),
        entry.get("family"),
        entry.get("architecture"),
        *entry.get("aliases", ()),
    )
    return _plain(" ".join(word for word in (*names, entry.get("note")) if word))


def _plain(word: str) -> str:
    return word.strip().lower().replace("_", "-").replace(" ", "-")
