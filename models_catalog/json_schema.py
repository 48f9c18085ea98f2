"""The JSON Schemas of catalog entries, for editors and other tools.

``schemas/*.schema.json`` are generated from the shapes that entries are checked against: ``python -m
models_catalog.json_schema`` writes them again, a test keeps them in step. They say what types say; what no type says
(contradictory fields, patterns of the wrong length) :mod:`models_catalog.validation` refuses with a sentence.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["SCHEMAS", "generated", "published"]

SCHEMAS = {kind: Path(__file__).parent / "schemas" / f"{kind}.schema.json" for kind in ("model", "gpu")}
TITLES = {"model": "meshwright: a model's architecture", "gpu": "meshwright: a GPU and the machine around it"}

PATTERN = {"type": "string", "pattern": r"^\s*(\d{1,4}\s*$|\(*\s*\[[\s01,]*\])"}
"""Layer patterns as Megatron writes them on a command line (:mod:`models_catalog.patterns`)."""


def published(kind: str) -> str:
    """The text of the schema that ships with the package; ``kind`` is ``model`` or ``gpu``."""
    return SCHEMAS[kind].read_text(encoding="utf-8")


def generated(kind: str) -> str:
    """The same text, made anew from the shapes."""
    from models_catalog.schema import GpuSpec, ModelSpec
    from models_catalog.validation import shape_of
    from models_catalog.writing import PATTERNS

    schema: dict[str, Any] = shape_of(ModelSpec if kind == "model" else GpuSpec).model_json_schema()
    properties = {name: _without_titles(value) for name, value in schema["properties"].items()}
    required = [name for name in schema["required"] if name != "name"]  # a file's name is its entry's
    conditions: list[dict[str, Any]] = [{"required": required}]
    if kind == "model":
        for name in PATTERNS:
            properties[name]["anyOf"].append(PATTERN)
        required.remove("num_layers")
        conditions = [{"required": ["num_layers"]}, {"required": ["hybrid_override_pattern"]}]
    else:
        properties["like"] = {
            "type": "string",
            "description": "a GPU of the catalog: what is left out is taken from it",
        }
        conditions.append({"required": ["like"]})
        required = []
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": TITLES[kind],
        "type": "object",
        "properties": properties,
        "required": required,
        "anyOf": conditions,
        "additionalProperties": False,
    }
    return json.dumps(whole, indent=1) + "\n"


def _without_titles(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_titles(item) for key, item in value.items() if key != "title"}
    return [_without_titles(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    for kind, path in SCHEMAS.items():
        path.write_text(generated(kind), encoding="utf-8")
