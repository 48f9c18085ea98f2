"""A Hugging Face ``config.json`` as a model. Reads integers; never executes anything, never goes to the network.

Covered are decoders whose layers Megatron-Core has. What a config leaves out takes the default of transformers' own
configuration class where published configs rely on it; what Megatron Bridge sets for a family whatever the config says is
set here too. Anything else is refused by its ``model_type`` rather than guessed at.

Sources: huggingface/transformers 5.24.0 ``models/*/configuration_*.py``; NVIDIA-NeMo/Megatron-Bridge@067f987
``src/megatron/bridge/models/*/*_bridge.py`` (named in short at each function).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from models_catalog.documents import Places
from models_catalog.huggingface.dense import DENSE
from models_catalog.huggingface.experts import EXPERTS
from models_catalog.huggingface.gemma import GEMMA
from models_catalog.huggingface.hybrid import HYBRID
from models_catalog.huggingface.latent import LATENT
from models_catalog.huggingface.older import OLDER
from models_catalog.huggingface.reader import Config, Reader
from models_catalog.huggingface.shared import Values
from models_catalog.huggingface.stepfun import STEPFUN
from models_catalog.huggingface.wrappers import language_part
from models_catalog.schema import ModelSpec

__all__ = ["MODEL_TYPES", "model_from_hf"]

_FAMILIES: dict[str, Callable[[Reader], Values]] = DENSE | GEMMA | OLDER | EXPERTS | LATENT | HYBRID | STEPFUN

MODEL_TYPES = tuple(sorted(_FAMILIES))
"""The ``model_type`` values of language models that are read; models that wrap one are read by it."""

REFUSED = {
    "minimax": "lightning attention, for which Megatron-Core has no layer",
    "minimax_text_01": "lightning attention, for which Megatron-Core has no layer",
    "falcon_h1": "layers with Mamba and attention side by side, which the catalog cannot say",
    "nemotron-nas": "layers that differ one by one (block_configs), which the catalog cannot say",
}
"""Known, and known not to fit."""


def model_from_hf(config: Config, origin: str, places: Places | None = None) -> ModelSpec:
    """The model that ``config`` describes. Raises :class:`~models_catalog.errors.InvalidEntry` naming the key."""
    reader, note = language_part(Reader(config, origin, places), _FAMILIES)
    kind = _kind(reader)
    values = _named(config, kind, origin) | _FAMILIES[kind](reader)
    from models_catalog.validation import validated_model

    values |= {"note": note, "sources": [f"architecture integers: {origin}"]}
    return validated_model({name: value for name, value in values.items() if value is not None}, origin)


def _kind(r: Reader) -> str:
    kind = r.word("model_type")
    if kind is None:
        r.refuse("model_type", "is missing")
    if kind in REFUSED:
        r.refuse("model_type", f"is {kind!r}: it has {REFUSED[kind]}")
    if kind not in _FAMILIES:
        r.refuse("model_type", f"is {kind!r}, which is not read here; known: {', '.join(MODEL_TYPES)}")
    return kind


def _named(config: Config, kind: str, origin: str) -> dict[str, Any]:
    """What to call it: as the hub's cache does, as the config itself does, as its folder or file is called."""
    path = PurePath(origin)
    for part in path.parts:
        if matched := re.fullmatch(r"models--(.+?)--(.+)", part):
            return {"name": _kebab(matched[2], kind), "hf_id": f"{matched[1]}/{matched[2]}", "family": kind}
    given = config.get("_name_or_path")
    place = path.parent.name if path.name == "config.json" else path.stem
    word = given.rstrip("/").rpartition("/")[2] if isinstance(given, str) and given.strip("/. ") else place
    return {"name": _kebab(word, kind), "family": kind}


def _kebab(word: str, otherwise: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", word.lower()).strip("-.")[:100] or otherwise
