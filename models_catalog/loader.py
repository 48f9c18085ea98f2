"""Finding entries: by name, alias or Hugging Face id in the catalog, or in a file of the user's own.

Entries that ship with the package are validated by its tests and built here without pydantic, so that a lookup costs
milliseconds. A user's entry goes through :mod:`models_catalog.validation`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from models_catalog.documents import parse_document, read_located, read_text
from models_catalog.errors import InvalidEntry, UnknownName
from models_catalog.names import close_names, files_of, resolve
from models_catalog.patterns import PatternError, parse_pattern
from models_catalog.schema import GpuSpec, ModelSpec

__all__ = [
    "HOME",
    "all_gpus",
    "all_models",
    "find_gpu",
    "find_model",
    "gpu_names",
    "load_gpu",
    "load_model",
    "model_names",
    "read_gpu",
    "read_model",
]

HOME = Path(__file__).parent

_SEQUENCES = ("aliases", "sources", "csa_compress_ratios", "moe_router_load_balancing_type")
_FREQUENCIES = ("moe_layer_freq", "window_attn_skip_freq", "linear_attention_freq")


def model_names() -> list[str]:
    """Every model of the catalog, in order."""
    return list(files_of("model"))


def gpu_names() -> list[str]:
    """Every GPU of the catalog, in order."""
    return list(files_of("gpu"))


@cache
def load_model(name: str) -> ModelSpec:
    """The catalog's model of that name, alias or Hugging Face id. Raises :class:`~models_catalog.errors.UnknownName`."""
    return ModelSpec(**model_fields(_entry("model", name), name))


@cache
def load_gpu(name: str) -> GpuSpec:
    """The catalog's GPU of that name or alias. Raises :class:`~models_catalog.errors.UnknownName`."""
    return GpuSpec(**gpu_fields(_entry("gpu", name)))


def all_models() -> list[ModelSpec]:
    """Every entry of the catalog, from its index."""
    from models_catalog.index import entries

    return [ModelSpec(**model_fields(entry, name)) for name, entry in entries("model").items()]


def all_gpus() -> list[GpuSpec]:
    """Every GPU of the catalog."""
    return [load_gpu(name) for name in gpu_names()]


def find_model(word: str) -> ModelSpec:
    """What a person may write for MODEL: a path (``config.json``, its folder, a YAML entry), or a name of the catalog."""
    if _is_path(word) or (Path(word).is_dir() and resolve("model", word) is None):
        return read_model(str(Path(word).expanduser()))
    return load_model(word)


def find_gpu(word: str) -> GpuSpec:
    """What a person may write for ``--gpu``: the path of a YAML entry, or a name of the catalog."""
    return read_gpu(str(Path(word).expanduser())) if _is_path(word) else load_gpu(word)


def read_gpu(path: str) -> GpuSpec:
    """A GPU from a YAML entry. ``like: NAME`` takes what the entry leaves out from a GPU of the catalog.

    Raises :class:`~models_catalog.errors.InvalidEntry` naming the field and its place, and
    :class:`~models_catalog.errors.UnknownName` for ``like``.
    """
    data, places = read_located(path)
    if not isinstance(data, dict):
        raise InvalidEntry(path, None, "is not a mapping of fields to values")
    from models_catalog.validation import validated_gpu

    data.setdefault("name", Path(path).stem)
    return validated_gpu(_completed(data, path), path, places)


def read_model(path: str) -> ModelSpec:
    """A model from a YAML entry, a ``config.json``, or a folder that holds one.

    Raises :class:`~models_catalog.errors.InvalidEntry` naming the field and its place.
    """
    file = Path(path)
    if file.is_dir():
        file = file / "config.json"
    data, places = read_located(str(file))
    if not isinstance(data, dict):
        raise InvalidEntry(str(file), None, "is not a mapping of fields to values")
    if "model_type" in data or "architectures" in data:
        from models_catalog.huggingface import model_from_hf

        return model_from_hf(data, str(file), places)
    from models_catalog.validation import validated_model

    data.setdefault("name", file.stem)
    return validated_model(data, str(file), places)


def model_fields(data: dict[str, Any], origin: str) -> dict[str, Any]:
    """YAML values as a :class:`~models_catalog.schema.ModelSpec` holds them: lists as tuples, frequencies expanded."""
    fields = dict(data)
    for name in _SEQUENCES:
        if isinstance(fields.get(name), list):
            fields[name] = tuple(fields[name])
    for name in _FREQUENCIES:
        if isinstance(fields.get(name), list | str):
            fields[name] = layer_pattern(fields[name], name, origin)
    return fields


def gpu_fields(data: dict[str, Any]) -> dict[str, Any]:
    """YAML values as a :class:`~models_catalog.schema.GpuSpec` holds them."""
    fields = dict(data)
    for name in ("aliases", "sources"):
        if isinstance(fields.get(name), list):
            fields[name] = tuple(fields[name])
    fields["collective_efficiency"] = tuple(
        (int(size), float(share)) for size, share in fields["collective_efficiency"]
    )
    return fields


def layer_pattern(value: list[Any] | str, field: str, origin: str) -> tuple[int, ...] | int:
    """What ``field`` says of each layer, or every how many layers. Raises :class:`~models_catalog.errors.InvalidEntry`.

    >>> layer_pattern("([0]*1+[1]*3)", "moe_layer_freq", "entry")
    (0, 1, 1, 1)
    """
    if isinstance(value, list):
        return tuple(value)
    try:
        return parse_pattern(value)
    except PatternError:
        raise InvalidEntry(origin, field, f"is {value!r}: write a list, or as in ([0]*3+[1]*58)") from None


def _completed(data: dict[str, Any], path: str) -> dict[str, Any]:
    """The fields of a GPU entry, what it leaves out from the GPU that ``like`` names; own sources first."""
    base = data.pop("like", None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise InvalidEntry(path, "like", f"is {base!r}: it must be the name of a GPU in the catalog")
    entry = {key: value for key, value in _entry("gpu", base).items() if key not in ("aliases", "note")}
    changed = ", ".join(key for key in data if key not in ("name", "aliases", "sources", "note"))
    own = data.get("sources", [f"{changed}: {path}"] if changed else [])
    if not isinstance(own, list):
        return entry | data  # the shape is refused where all shapes are
    return entry | data | {"sources": [*own, *entry["sources"]]}


def _is_path(word: str) -> bool:
    return word.endswith((".json", ".yaml", ".yml")) or word.startswith((".", "/", "~"))


def _entry(kind: str, name: str) -> dict[str, Any]:
    known = resolve(kind, name)
    if known is None:
        raise UnknownName(kind, name, close_names(kind, name))
    path = files_of(kind)[known]
    data: dict[str, Any] = parse_document(read_text(str(path)), str(path))
    return data
