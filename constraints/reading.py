"""From the words of a layout, in whatever spelling, to a :class:`~constraints.layout.Layout`, as Bridge resolves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from constraints.asked import Asked, Word, asked_words
from constraints.batch_choice import chosen_microbatches
from constraints.context import loss_as_left_out
from constraints.errors import LayoutError
from constraints.generations import before
from constraints.layout import Layout, PipelineSplit, Recompute, Settings
from constraints.pipeline.language import LayoutSyntaxError, parse_layout
from constraints.problem import Origin, Problem
from constraints.word_values import WordValues

__all__ = ["Reading", "read_layout", "read_values"]

ATTRIBUTES = {
    "sp": "sequence_parallel",
    "mbs": "micro_batch_size",
    "gbs": "global_batch_size",
    "m": "num_microbatches",
}
"""Words whose decision has another name in a :class:`~constraints.layout.Layout`."""

SWITCHES = tuple(f.name for f in fields(Settings))


@dataclass(frozen=True)
class Reading:
    """A layout as understood: what was silently changed (as Bridge would), and where each decision that was written down
    came from (named as in :class:`~constraints.layout.Layout`)."""

    layout: Layout
    warnings: tuple[str, ...]
    origins: Mapping[str, Origin]


def read_layout(raw: Mapping[str, Any], problem: Problem, origins: Mapping[str, Origin] | None = None) -> Reading:
    """The layout that ``raw`` (short names, Megatron fields, Bridge overrides or flags to values) means for ``problem``.

    Unset keys take Bridge's defaults: etp is 1 with ep > 1, else tp; sequence parallelism with tp = 1 is dropped. (Both
    since generation 0.19: before, etp is tp, and sequence parallelism with tp = 1 raises.) Words of the request or the
    model may stand there if they agree with the problem. Raises
    :class:`~constraints.errors.LayoutError` naming the word.

    >>> from models_catalog.loader import load_gpu, load_model
    >>> machine = {"gpus": 64, "gpus_per_node": 8, "nvlink_domain": 8, "budget_bytes": 79 << 30}
    >>> problem = Problem(load_model("llama-3.1-8b"), load_gpu("h100"), seq_length=8192, **machine)
    >>> read_layout({"tp": "8", "model.pipeline_model_parallel_size": 4}, problem).layout.dp
    2
    """
    words = WordValues(raw, origins or {})
    return read_values(words, asked_words(raw, words.origins) if words.asks else Asked(), problem)


def read_values(words: WordValues, asked: Asked, problem: Problem) -> Reading:
    """:func:`read_layout` for words that are already values."""
    _agree(asked, problem)
    warnings = []
    if words.ignored:
        more = f" and {len(words.ignored) - 6} more" if len(words.ignored) > 6 else ""
        warnings.append(f"no layout decision, ignored: {', '.join(words.ignored[:6])}{more}")
    layout = _layout(words, problem, warnings)
    written = {ATTRIBUTES.get(name, name): words.origin(word) for name, word in words.words.items()}
    return Reading(layout, tuple(warnings), written)


def _agree(asked: Asked, problem: Problem) -> None:
    """Words about the request and the model say what the problem says; else one of the two is a mistake."""
    for name, word in asked.request.items():
        theirs = problem.gpu.name if name == "gpu" else getattr(problem, name, word.value)
        alias = name == "gpu" and word.value in problem.gpu.aliases
        if word.value != theirs and not alias and not (word.weak and problem.uses_fp8):
            raise _disagreement(word, name, theirs, problem)
    for name, word in asked.model.items():
        theirs = getattr(problem.model, name)
        plain = isinstance(word.value, bool | int | str) and isinstance(theirs, bool | int | str | None)
        if plain and (word.value or None) != (theirs or None):
            raise _disagreement(word, name, theirs, problem)


def _disagreement(word: Word, name: str, theirs: Any, problem: Problem) -> LayoutError:
    return LayoutError(word.text, word.value, word.origin, f"contradicts {name}={theirs} ({problem.origin(name)})")


def _layout(words: WordValues, problem: Problem, warnings: list[str]) -> Layout:
    gpus = problem.gpus
    tp, pp, cp, ep = (words.get(name, 1) for name in ("tp", "pp", "cp", "ep"))
    bridge_mends = not before(problem.megatron, "0.19")
    etp = words.get("etp", 1 if ep > 1 and bridge_mends else tp)
    split = _split(words, problem)
    vpp = _virtual_stages(words, problem, pp, split)
    dp = words.get("dp", max(1, gpus // (tp * pp * cp)))
    settings = loss_as_left_out(problem, _settings(words, problem, warnings))
    micro = words.get("mbs", 1)
    group = settings.microbatch_group(pp) if vpp and pp > 1 else 1
    count, batch = _batch(words, problem, dp, micro, group)
    parallel = bool(words.get("sp", False))
    dropped = parallel and tp == 1 and bridge_mends
    if dropped:
        warnings.append("sequence_parallel with tp=1: Megatron Bridge turns it off (Megatron-Core would raise)")
    return Layout(
        tp=tp,
        pp=pp,
        vpp=vpp,
        cp=cp,
        ep=ep,
        etp=etp,
        dp=dp,
        edp=words.get("edp", max(1, gpus // (etp * ep * pp))),
        sequence_parallel=parallel and not dropped,
        micro_batch_size=micro,
        num_microbatches=count,
        global_batch_size=batch,
        gpus=gpus,
        split=split,
        recompute=Recompute(
            granularity=words.get("recompute_granularity"),
            method=words.get("recompute_method"),
            num_layers=words.get("recompute_num_layers"),
            modules=words.get("recompute_modules", ()),
        ),
        settings=settings,
    )


def _split(words: WordValues, problem: Problem) -> PipelineSplit:
    split = PipelineSplit(
        layout=words.get("layout"),
        first=words.get("first"),
        last=words.get("last"),
        account_for_embedding=bool(words.get("account_for_embedding", False)),
        account_for_loss=bool(words.get("account_for_loss", False)),
    )
    if words.form is None or words.form == "layout" or split.layout is None:
        return split
    # An answer of solve: the whole assignment stands in the layout string, the form says how Megatron is told.
    from constraints.pipeline.assignment import simplest_split_of_text

    chunks = words.get("pp", 1) * words.get("vpp", 1)
    simplest = simplest_split_of_text(problem.model, words.get("pp", 1), chunks, split.layout)
    return simplest if simplest is not None and simplest.form == words.form else split


def _virtual_stages(words: WordValues, problem: Problem, pp: int, split: PipelineSplit) -> int | None:
    """``vpp`` as given; else what a layout's chunks imply (Megatron: V := chunks / pp where that exceeds 1)."""
    given: int | None = words.get("vpp")
    if words.layers_a_chunk is not None:
        return _stages_of_layers(words, problem, pp, split, words.layers_a_chunk)
    if given is not None or split.layout is None:
        return given
    try:
        chunks = len(parse_layout(split.layout))
    except LayoutSyntaxError:
        return None
    return chunks // pp if chunks > pp else None


def _stages_of_layers(words: WordValues, problem: Problem, pp: int, split: PipelineSplit, each: int) -> int | None:
    """Virtual stages of ``each`` layers (``megatron/training/arguments.py::validate_args``); 1 is "not interleaved"."""
    layers = problem.model.num_layers + split.account_for_embedding + split.account_for_loss
    if layers % (pp * each):
        message = f"does not divide the {layers} layers over pp={pp}: {layers} mod {pp * each} = {layers % (pp * each)}"
        raise words.error(words.words["vpp"], each, message)
    stages = layers // (pp * each)
    return stages if stages > 1 else None


def _batch(words: WordValues, problem: Problem, dp: int, micro: int, multiple: int) -> tuple[int, int]:
    """(micro-batches, global batch): as given, as the request says, or chosen near the target."""
    count, batch = words.get("m"), words.get("gbs")
    if count is not None and batch is not None and count * micro * dp != batch:
        product = f"mbs {micro} * dp {dp} * {count} micro-batches = {count * micro * dp}"
        raise words.error(words.words["m"], count, f"contradicts the global batch {batch}: {product}")
    if count is not None:
        return count, count * micro * dp
    if batch is None:
        batch = problem.global_batch_size
    if batch is None:
        count = chosen_microbatches(problem.target_sequences, dp, micro, multiple)
        return count, count * micro * dp
    return batch // (micro * dp), batch


def _settings(words: WordValues, problem: Problem, warnings: list[str]) -> Settings:
    given = {name: value for name, value in words.values.items() if value is not None and name in SWITCHES}
    if given.get("dataset_seq_length") == problem.seq_length:
        del given["dataset_seq_length"]  # the data set has the model's length unless said otherwise
    settings = replace(problem.settings, **given) if given else problem.settings
    if settings.moe_token_dispatcher_type == "flex" and words.values.get("moe_flex_dispatcher_backend", "") is None:
        warnings.append("moe_flex_dispatcher_backend=null with flex: Megatron Bridge falls back to alltoall")
        settings = replace(settings, moe_token_dispatcher_type="alltoall", moe_flex_dispatcher_backend=None)
    return settings
