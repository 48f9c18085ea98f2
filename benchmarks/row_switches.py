"""Which of Megatron's switches a published run had: CUDA graphs, dispatcher, EP overlap, forced balance, width of gradients.

Most tables have no columns for them. A row's own words go first; then what rows of its kin say in the same files; then what
Megatron Bridge's recipes for the model say (``data/recipe_switches.csv``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.row_names import model_named
from benchmarks.rows import Row, Skipped, read_rows, text
from constraints.layout import Settings
from models_catalog.names import spelling
from models_catalog.schema import ModelSpec

__all__ = ["Kin", "is_natural", "settings_of"]

RECIPES = Path(__file__).parent / "data" / "recipe_switches.csv"

SWITCHES = ("cuda_graph", "dispatcher")

USUAL_DISPATCHER = "flex/hybridep"
"""Where nothing says: what most performance recipes use on every GPU since Hopper."""

BF16_GRADIENTS = "25.02"
"""Release from which on whatever NVIDIA timed adds up and reduces gradients in bf16: NeMo ``scripts/performance/helpers.py``
(``set_precision_configs``), Megatron Bridge v0.1.0rc4 ``scripts/performance/configs``, 067f987 ``perf_recipes/_common.py``
(``_perf_precision``, ``_benchmark_common``) and each of its recipes that is timed."""


class Kin:
    """What kin of a row most often say of a switch that it leaves open: rows of the same model and GPU, or of the same model,
    then recipes of the same.

    The dispatcher is first looked for among rows of the same model and release, which change it for all GPUs at once.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self._counts: dict[tuple[str, ...], Counter[str]] = {}
        for row in rows:
            for name in SWITCHES:
                if value := _own(row, name):
                    for kin in _kin(row, name):
                        self._counts.setdefault((name, *kin), Counter())[value] += 1

    def value(self, row: Row, name: str, model: str) -> str:
        """The row's own word for ``name``, or its kin's, empty where nobody says. ``model`` is the catalog's name."""
        if value := _own(row, name):
            return value
        gpu, precision = text(row, "gpu").lower(), text(row, "precision")
        recipes = ((model, gpu, precision), (model, gpu), (model,))
        for counts, kind in ((self._counts, _kin(row, name)), (_recipe_counts(), recipes)):
            for kin in kind:
                if (name, *kin) in counts:
                    return counts[(name, *kin)].most_common(1)[0][0]
        return ""


def settings_of(row: Row, kin: Kin, model: ModelSpec) -> Settings:
    """The switches of the run; a dense model has no dispatcher."""
    note = text(row, "note").lower()
    implementation, _, modules = kin.value(row, "cuda_graph", model.name).partition(":")
    values: dict[str, Any] = {
        "cuda_graph_impl": implementation or "none",
        "cuda_graph_modules": tuple(word for word in modules.split(";") if word),
        "overlap_moe_expert_parallel_comm": "ep overlap on" in note or _recipe(row).get("ep_overlap") == "True",
    }
    if model.is_moe:
        dispatcher, _, backend = (kin.value(row, "dispatcher", model.name) or USUAL_DISPATCHER).partition("/")
        values |= {"moe_token_dispatcher_type": dispatcher, "moe_flex_dispatcher_backend": backend or None}
    if implementation not in ("", "none"):
        values |= {"use_te_rng_tracker": True, "check_for_nan_in_loss": False}  # no graph without them
    if "tokendrop" in note:
        values |= {"moe_expert_capacity_factor": 1.0, "moe_pad_expert_input_to_capacity": True}
    if _has_bf16_gradients(row):
        values["grad_reduce_in_fp32"] = False
    if text(row, "fsdp") == "1":
        values |= {"use_megatron_fsdp": True, "data_parallel_sharding_strategy": "optim_grads_params"}
    return Settings(**values)


def _has_bf16_gradients(row: Row) -> bool:
    """True for a table of a release that is new enough, and for a verification card, which is of the newest."""
    release = re.search(r"\b\d\d\.\d\d\b", text(row, "section"))
    return text(row, "provenance").startswith("repo card") or (release is not None and release[0] >= BF16_GRADIENTS)


def is_natural(row: Row) -> bool:
    """True where experts were not loaded evenly by force: the row says so, or its recipe does not force it."""
    return "natural routing" in text(row, "note") or _recipe(row).get("force_balanced") == "False"


def _own(row: Row, name: str) -> str:
    """What the row says itself, unless it is joined from a recipe that is there to be tested, not to be timed."""
    recipe = _recipe(row)
    if name in SWITCHES and recipe.get("recipe", "") not in ("", *_names(row)):
        return recipe[name] or text(row, name)
    return text(row, name)


def _kin(row: Row, name: str) -> Iterator[tuple[str, ...]]:
    model = spelling(text(row, "model"))
    if name == "dispatcher":
        yield model, "release", text(row, "section")
    gpu = text(row, "gpu").lower()
    yield model, "gpu", gpu, text(row, "precision")
    yield model, "gpu", gpu
    yield (model,)


# -- recipes


def _names(row: Row) -> list[str]:
    return [name for name in re.split(r"[;|, ]+", text(row, "matched_recipe")) if name]


def _recipe(row: Row) -> Row:
    """The recipe that the row was matched with, empty where it is not known; for a run of a table, the recipe that is timed
    rather than its ``functional`` twin of the same degrees."""
    known = _recipes()
    for name in _names(row):
        timed = name.replace("_functional_", "_")
        if timed in known and not text(row, "provenance").startswith("repo card"):
            return known[timed]
        if name in known:
            return known[name]
    return {}


@cache
def _recipes() -> dict[str, Row]:
    return {row["recipe"]: row for row in read_rows(str(RECIPES))}


def _model_of(recipe: Row) -> str:
    """The catalog's name of the model, by the recipe's Hugging Face id, or by its own name where it has none."""
    try:
        return model_named(recipe["hf_id"] or recipe["recipe"].partition("_pretrain")[0]).name
    except Skipped:
        return ""


@cache
def _recipe_counts() -> dict[tuple[str, ...], Counter[str]]:
    counts: dict[tuple[str, ...], Counter[str]] = {}
    for recipe in _recipes().values():
        model = _model_of(recipe)
        for name in SWITCHES:
            if recipe["kind"] == "perf" and recipe[name] and "_dev_" not in recipe["recipe"]:
                gpu = recipe["gpu"].lower()
                for kin in ((model, gpu, recipe["precision"]), (model, gpu), (model,)):
                    counts.setdefault((name, *kin), Counter())[recipe[name]] += 1
    return counts
