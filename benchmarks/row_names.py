"""What published rows call loosely - models, GPUs, precisions - as the catalog and the request call it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

from benchmarks.rows import Skipped
from constraints.precision_names import PRECISIONS
from models_catalog.errors import CatalogError
from models_catalog.loader import gpu_names, load_gpu, load_model, model_names
from models_catalog.names import spelling
from models_catalog.schema import GpuSpec, ModelSpec

__all__ = ["DEEPEST", "gpu_named", "model_named", "only_decoders", "precision_named", "shortened"]

WORK = (
    "sft",
    "peft",
    "lora",
    "full",
    "finetune",
    "finetuning",
    "pretrain",
    "pretraining",
    "resume",
    "perf",
    "release",
    "sm",
)
WEIGHTS = ("base", "instruct", "chat", "it", "hf", "llm", "text", "bf16", "fp8", "mxfp8", "nvfp4")
NOT_THE_MODEL = frozenset(WORK + WEIGHTS)
"""Words after a model's name that say what is done with it, or which of its weights are meant."""

NOT_DECODERS = ("bert", "t5", "biencoder")
WITH_TOWERS = ("mimo", "multimodal", "llava")

BY_LAYER = ("moe_layer_freq", "window_attn_skip_freq", "linear_attention_freq", "csa_compress_ratios")
"""Fields that may say something of each layer."""
DEEPEST = 4096
"""Layers above this are a mistake."""

PRECISION_WORDS = (
    ("fp8_ds", "fp8_ds"),
    ("fp8_sc", "fp8_sc"),
    ("fp4", "nvfp4"),
    ("mx", "fp8_mx"),
    ("block", "fp8_sc"),
    ("subchannel", "fp8_sc"),
    ("delayed", "fp8_ds"),
    ("hybrid", "fp8_ds"),
    ("tensor", "fp8_cs"),
    ("current", "fp8_cs"),
    ("fp8", "fp8_cs"),
    ("fp16", "fp16"),
    ("bf16", "bf16"),
    ("bfloat16", "bf16"),
)
"""Parts of loose names, the first that is met decides. FP8 alone is current scaling: so Megatron Bridge's tables mean it."""


def model_named(name: str) -> ModelSpec:
    """The catalog's entry for a loosely written name; "(first 12 layers, 1 dense)" cuts it. Raises ``Skipped``.

    >>> model_named("Qwen3-8B LoRA").name, model_named("llama3-70b (first 12 layers)").num_layers
    ('qwen3-8b', 12)
    """
    model = _catalog_entry(name.strip())
    if model is None:
        raise Skipped("model not in the catalog")
    cut = re.search(r"first ([1-9]\d{0,3}) layers(?:, (\d{1,4}) dense)?", name)
    return shortened(model, int(cut[1]), int(cut[2]) if cut[2] else None) if cut else model


@cache
def _catalog_entry(name: str) -> ModelSpec | None:
    wanted = _candidates(name)
    for candidates in (wanted, [re.sub(r"[\s_-]vl(?=[\s_-]|$)", "", word, flags=re.IGNORECASE) for word in wanted]):
        for candidate in (*candidates, *filter(None, map(_completed, candidates))):
            try:
                return load_model(candidate)
            except CatalogError:
                continue
    return None


def _candidates(name: str) -> list[str]:
    """The name, then with less and less beside it that is not the model's, each also with points where recipes have none."""
    first = name.partition(" / ")[0]
    bare = re.sub(r"\(.*?\)", "", first).strip()
    words = re.split(r"([\s_-]+)", bare)
    kept = [first, bare]
    while len(words) > 2 and _is_beside(words[-1].lower()):
        words = words[:-2]
        kept.append("".join(words))
    return [spelled for candidate in kept for spelled in (candidate, _pointed(candidate))]


def _is_beside(word: str) -> bool:
    """What is done with the model, which of its weights, on how many ranks: none of it names an architecture."""
    return word in NOT_THE_MODEL or re.fullmatch(r"(?:[tpce]p|etp|emp|vpp|[gbh]+\d00)\d?.*", word) is not None


def _pointed(name: str) -> str:
    """``llama31_405b`` and ``qwen3_1p7b``, as recipes are called, with the points that file names leave out."""
    return re.sub(
        r"(?<=\d)p(?=\d)", ".", re.sub(r"(?<=[a-z])(\d)(\d)(?=[\s_-]|$)", r"\1.\2", name, flags=re.IGNORECASE)
    )


def _completed(name: str) -> str | None:
    """The one entry whose name goes on after ``name``, which says a size: ``Qwen3-VL-235B`` is ``qwen3-vl-235b-a22b``."""
    start = spelling(name)
    found = [known for known in model_names() if spelling(known).startswith(start)]
    return found[0] if len(found) == 1 and re.search(r"\d[bt]$", start) else None


def shortened(model: ModelSpec, layers: int, dense: int | None = None) -> ModelSpec:
    """The first ``layers`` layers of a model, without MTP; ``dense`` says how many of them are dense, if not as many."""
    cut: dict[str, Any] = {
        name: value[:layers] for name in BY_LAYER if isinstance(value := getattr(model, name), tuple)
    }
    if dense is not None:
        cut["moe_layer_freq"] = (0,) * min(dense, layers) + (1,) * (layers - dense)
    if model.hybrid_override_pattern is not None:
        main = model.hybrid_override_pattern.split("/")[0].replace("|", "")
        if layers > len(main):
            raise Skipped("more layers than the hybrid pattern has")
        cut["hybrid_override_pattern"] = main[:layers]
    return replace(model, num_layers=layers, mtp_num_layers=None, **cut)


@cache
def gpu_named(name: str) -> GpuSpec:
    """The catalog's GPU for names such as ``H100-80GB``, ``NVIDIA A100-SXM4-40GB`` or ``dgxa100_dracooci``.

    >>> [gpu_named(name).name for name in ("A100", "GB200-186GB", "dgx_h100_2nd", "A100-SXM4-40GB")]
    ['a100-80gb', 'gb200-nvl72', 'h100', 'a100-40gb']
    """
    plain = name.strip().lower()
    for candidate in (plain, *_gpu_candidates(plain)):
        try:
            return load_gpu(candidate)
        except CatalogError:
            continue
    raise Skipped(f"GPU {name.strip()[:40] or '(none)'} not in the catalog")


def _gpu_candidates(plain: str) -> Iterator[str]:
    """The chip with its form and memory, then with less and less of them."""
    chips = {match[0] for known in gpu_names() if (match := re.match(r"[a-z]+\d+[a-z]*", known))}
    for chip in sorted(chips, key=len, reverse=True):
        if not re.search(rf"(?<![a-z0-9])(?:dgx|hgx)?{chip}(?![a-z0-9])", plain):
            continue
        form = re.search(r"sxm|pcie|nvl", plain.partition(chip)[2])
        size = re.search(r"(\d+) ?gi?b?\b", plain.partition(chip)[2])
        forms, sizes = [f"-{form[0]}"] if form else [], [f"-{size[1]}gb"] if size else []
        yield from (f"{chip}{f}{s}" for f in forms for s in sizes)
        yield from (f"{chip}{word}" for word in (*forms, *sizes, "", "-80gb"))


def precision_named(value: str) -> str:
    """The precision in our names, from a dtype, an fp8 recipe or a table's word; bf16 where it says nothing.

    >>> [precision_named(value) for value in ("bf16+fp8:mxfp8", "FP8-CS", "NVFP4", "")]
    ['fp8_mx', 'fp8_cs', 'nvfp4', 'bf16']
    """
    plain = value.strip().lower().replace("-", "_")
    if not plain or plain in PRECISIONS:
        return plain or "bf16"
    for word, meant in PRECISION_WORDS:
        if word in plain:
            return meant
    raise Skipped(f"precision {value.strip()[:40]}")


def only_decoders(family: str, name: str) -> None:
    """Raise :class:`~benchmarks.rows.Skipped` for what is no decoder trained by itself."""
    if family.lower() in NOT_DECODERS:
        raise Skipped("encoder-decoder or BERT")
    if family.lower() in WITH_TOWERS or any(f"{word}_" in name.lower() for word in WITH_TOWERS):
        raise Skipped("a vision tower beside the language model")
    if "distill" in name.lower():
        raise Skipped("distillation: a teacher beside the student")
    if "grpo" in name.lower():
        raise Skipped("reinforcement learning: an inference engine's cache beside training")
