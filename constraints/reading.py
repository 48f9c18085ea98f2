"""From the words of a layout, in whatever spelling, to a :class:`~constraints.layout.Layout`, as Megatron Bridge resolves it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from constraints.batch_choice import chosen_microbatches
from constraints.errors import LayoutError
from constraints.layout import Layout, PipelineSplit, Recompute, Settings
from constraints.pipeline.language import LayoutSyntaxError, parse_layout
from constraints.problem import Origin, Problem
from constraints.spelling import known_words, read_value, spelling_of
from models_catalog.schema import ModelSpec

__all__ = ["Reading", "read_layout"]

Origins = Mapping[str, Origin]

REPORTED = frozenset(
    {"rank", "gpus_used", "gpus_idle", "memory", "time", "communication", "pipeline_form", "status", "schema"}
)
"""What ``solve --format json`` writes beside the layout itself."""

REQUEST_WORDS = frozenset({"seq_length", "gpus", "gpu", "precision", "task", "model"})
MODEL_FIELDS = frozenset(f.name for f in fields(ModelSpec))
FORMS = ("even", "account", "first-last", "layout")


@dataclass(frozen=True)
class Reading:
    """A layout as understood: what was silently changed (as Bridge would), which keys were given, and what was said
    about the request or the model along the way (``seq_length``, ``num_layers`` ...)."""

    layout: Layout
    warnings: tuple[str, ...]
    given: frozenset[str]
    request_words: Mapping[str, Any]


def read_layout(raw: Mapping[str, Any], problem: Problem, origins: Origins | None = None) -> Reading:
    """The layout that ``raw`` (short names, Megatron fields, Bridge overrides or flags to values) means for ``problem``.

    Unset keys take Bridge's defaults: etp is 1 with ep > 1, else tp; sequence parallelism with tp = 1 is dropped. Raises
    :class:`~constraints.errors.LayoutError` naming the word.

    >>> # read_layout({"tp": "8", "model.pipeline_model_parallel_size": 4}, problem).layout.dp
    """
    return _LayoutReader(raw, problem, origins or {}).read()


class _LayoutReader:
    def __init__(self, raw: Mapping[str, Any], problem: Problem, origins: Origins) -> None:
        self.problem, self.origins = problem, origins
        self.warnings: list[str] = []
        self.request_words: dict[str, Any] = {}
        self.words: dict[str, str] = {}
        self.values: dict[str, Any] = {}
        self.form: str | None = None
        ignored: list[str] = []
        for word, value in raw.items():
            if word == "recompute":
                self._recompute_word(value)
            elif not self._take(word, value):
                ignored.append(word)
        if ignored:
            shown = ", ".join(ignored[:6]) + (f" and {len(ignored) - 6} more" if len(ignored) > 6 else "")
            self.warnings.append(f"no layout decision, ignored: {shown}")

    # -- words to values

    def _take(self, word: str, value: Any) -> bool:
        """Keep one word; ``False`` if it is some other Bridge or Megatron-LM setting."""
        spelling = spelling_of(word)
        if spelling is not None:
            self._set(spelling.name, word, value)
            return True
        if word == "pipeline_form":
            if value not in FORMS:
                raise self._error(word, value, f"must be one of {', '.join(FORMS)}")
            self.form = value
            return True
        if word in REPORTED:
            return True
        bare = word.rsplit(".", 1)[-1]
        if word in ("--seq-length", "model.seq_length") or bare in REQUEST_WORDS and "." not in word:
            self.request_words["seq_length" if "seq" in word else bare] = value
            return True
        if bare in MODEL_FIELDS and (word == bare or word == f"model.{bare}"):
            self.request_words[bare] = value
            return True
        if "." in word or word.startswith("--"):
            return False
        close = difflib.get_close_matches(word, known_words(), n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise self._error(word, None, f"is not a word of a layout{hint}")

    def _set(self, name: str, word: str, value: Any) -> None:
        try:
            read = read_value(name, value)
        except ValueError as error:
            raise self._error(word, None, str(error)) from None
        if name in self.words and self.values[name] != read:
            other = self.words[name]
            raise self._error(word, value, f"contradicts {other}={self.values[name]}")
        self.words[name], self.values[name] = word, read

    def _recompute_word(self, value: Any) -> None:
        """``recompute=none|selective|full``, or the mapping that ``solve`` writes."""
        if isinstance(value, Mapping):
            for key in ("granularity", "method", "num_layers", "modules"):
                if value.get(key) not in (None, [], ()):
                    self._set(f"recompute_{key}", f"recompute.{key}", value[key])
            unknown = sorted(set(value) - {"granularity", "method", "num_layers", "modules"})
            if unknown:
                raise self._error(f"recompute.{unknown[0]}", None, "is not a recompute key")
            return
        if value not in ("none", "selective", "full", None):
            raise self._error("recompute", value, "must be none, selective or full")
        if value in ("selective", "full"):
            self._set("recompute_granularity", "recompute", value)
        if value == "full":
            self.values.setdefault("recompute_method", "uniform")
            self.values.setdefault("recompute_num_layers", 1)

    def _error(self, word: str, value: Any, message: str) -> LayoutError:
        return LayoutError(word, value, self.origins.get(word, Origin("layout", "layout")), message)

    # -- values to a layout

    def get(self, name: str, default: Any = None) -> Any:
        value = self.values.get(name)
        return default if value is None else value

    def read(self) -> Reading:
        gpus = self.problem.gpus
        tp, pp, cp, ep = (self.get(name, 1) for name in ("tp", "pp", "cp", "ep"))
        etp = self.get("etp", 1 if ep > 1 else tp)
        split = self._split()
        vpp = self._virtual_stages(pp, split)
        dp = self.get("dp", max(1, gpus // (tp * pp * cp)))
        settings = self._settings()
        micro = self.get("mbs", 1)
        count, batch = self._batch(
            dp, micro, (settings.microbatch_group_size_per_vp_stage or pp) if vpp and pp > 1 else 1
        )
        layout = Layout(
            tp=tp,
            pp=pp,
            vpp=vpp,
            cp=cp,
            ep=ep,
            etp=etp,
            dp=dp,
            edp=self.get("edp", max(1, gpus // (etp * ep * pp))),
            sequence_parallel=self._sequence_parallel(tp),
            micro_batch_size=micro,
            num_microbatches=count,
            global_batch_size=batch,
            gpus=gpus,
            split=split,
            recompute=self._recompute(),
            settings=settings,
        )
        return Reading(layout, tuple(self.warnings), frozenset(self.values), self.request_words)

    def _sequence_parallel(self, tp: int) -> bool:
        wanted = bool(self.get("sp", False))
        if wanted and tp == 1:
            self.warnings.append(
                "sequence_parallel with tp=1: Megatron Bridge turns it off (Megatron-Core would raise)"
            )
        return wanted and tp > 1

    def _split(self) -> PipelineSplit:
        split = PipelineSplit(
            layout=self.get("layout"),
            first=self.get("first"),
            last=self.get("last"),
            account_for_embedding=bool(self.get("account_for_embedding", False)),
            account_for_loss=bool(self.get("account_for_loss", False)),
        )
        if self.form is None or self.form == "layout" or split.layout is None:
            return split
        # An answer of solve: the whole assignment stands in the layout string, the form says how Megatron is told.
        from constraints.pipeline.assignment import simplest_split_of_text

        chunks = self.get("pp", 1) * self.get("vpp", 1)
        simplest = simplest_split_of_text(self.problem.model, self.get("pp", 1), chunks, split.layout)
        return simplest if simplest is not None else split

    def _virtual_stages(self, pp: int, split: PipelineSplit) -> int | None:
        """``vpp`` as given; else what a layout's chunks imply (Megatron: V := chunks / pp where that exceeds 1)."""
        given: int | None = self.get("vpp")
        if given is not None or split.layout is None:
            return given
        try:
            chunks = len(parse_layout(split.layout))
        except LayoutSyntaxError:
            return None
        return chunks // pp if chunks > pp else None

    def _batch(self, dp: int, micro: int, multiple: int) -> tuple[int, int]:
        """(micro-batches, global batch): as given, as the request says, or chosen near the target."""
        count, batch = self.get("m"), self.get("gbs")
        if count is not None and batch is not None and count * micro * dp != batch:
            product = f"mbs {micro} * dp {dp} * {count} micro-batches = {count * micro * dp}"
            raise self._error(self.words["m"], count, f"contradicts the global batch {batch}: {product}")
        if count is not None:
            return count, count * micro * dp
        if batch is None:
            batch = self.problem.global_batch_size
        if batch is None:
            count = chosen_microbatches(self.problem.target_sequences, dp, micro, multiple)
            return count, count * micro * dp
        return batch // (micro * dp), batch

    def _recompute(self) -> Recompute:
        return Recompute(
            granularity=self.get("recompute_granularity"),
            method=self.get("recompute_method"),
            num_layers=self.get("recompute_num_layers"),
            modules=self.get("recompute_modules", ()),
        )

    def _settings(self) -> Settings:
        given = {f.name: self.values[f.name] for f in fields(Settings) if self.values.get(f.name) is not None}
        base = {f.name: getattr(self.problem.settings, f.name) for f in fields(Settings)}
        return Settings(**(base | given))
