"""``meshwright catalog``: what is known of models and machines, with sources; a Hugging Face config as an entry."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click

from cli.catalog_filter import Filter
from cli.output import deliver
from cli.streams import remark

__all__ = ["command"]

FORMATS = click.option(
    "--format", "format_", type=click.Choice(("text", "json", "yaml")), default="text", show_default=True
)
OUTPUT = click.option("-o", "--output", metavar="FILE", help="Write the result to FILE, whole or not at all.")
SEARCH = click.option("--search", metavar="WORD", help="Only entries in whose names WORD occurs.")


@click.group("catalog")
def command() -> None:
    """List and show the models and machines that are known; turn a Hugging Face config into an entry.

    \b
    meshwright catalog models --moe --min-params 100b
    meshwright catalog models deepseek-v3
    meshwright catalog gpus
    meshwright catalog import ./my-model/config.json -o my-model.yaml
    """


@command.command("models", short_help="List the models, or show one.")
@click.argument("name", required=False, metavar="[NAME]")
@click.option("--family", metavar="F", help="Only this family (llama3), or those whose names begin so (llama).")
@click.option("--moe/--dense", "moe", default=None, help="Only models with experts, or without.")
@click.option("--mla", is_flag=True, help="Only models with multi-latent attention.")
@click.option("--hybrid", is_flag=True, help="Only models with Mamba or linear-attention layers.")
@click.option("--min-params", metavar="N", help="Only models of at least N parameters in all, as in 70b.")
@click.option("--max-params", metavar="N", help="Only models of at most N parameters in all.")
@SEARCH
@FORMATS
@OUTPUT
def models(name: str | None, format_: str, output: str | None, **wanted: Any) -> int:
    """List the models, or show one (a name, an alias, a Hugging Face id, a file) with every number and its source."""
    if name is not None:
        _alone(name, wanted)
        deliver(_one_model(name, format_), output)
        return 0
    from models_catalog.index import entries

    chosen = Filter(**wanted).of(entries("model"))
    _list(chosen, format_, output, _model_table, _model_rows)
    return 0


@command.command("gpus", short_help="List the machines, or show one.")
@click.argument("name", required=False, metavar="[NAME]")
@SEARCH
@FORMATS
@OUTPUT
def gpus(name: str | None, search: str | None, format_: str, output: str | None) -> int:
    """List the machines, or show one (a name, an alias, a file) with every number and its source."""
    if name is not None:
        _alone(name, {"search": search})
        deliver(_one_gpu(name, format_), output)
        return 0
    from models_catalog.index import entries

    chosen = Filter(search=search).of(entries("gpu"))
    _list(chosen, format_, output, _gpu_table, list)
    return 0


@command.command("import", short_help="Turn a Hugging Face config into an entry.")
@click.argument("config", metavar="CONFIG.JSON")
@click.option("--name", metavar="NAME", help="Name of the entry (default: what the config or its folder is called).")
@OUTPUT
def import_(config: str, name: str | None, output: str | None) -> int:
    """Turn a Hugging Face config.json (or the folder that holds it) into a catalog entry, which solve and check read."""
    from dataclasses import replace

    from models_catalog.loader import read_model
    from models_catalog.writing import entry_text

    model = read_model(config)
    deliver(entry_text(replace(model, name=name) if name else model), output)
    return 0


@command.command("schema", short_help="Print the JSON Schema of an entry.")
@click.argument("kind", type=click.Choice(("model", "gpu")))
@OUTPUT
def schema(kind: str, output: str | None) -> int:
    """Print the JSON Schema of an entry, for editors and other tools."""
    from models_catalog.json_schema import published

    deliver(published(kind), output)
    return 0


def _alone(name: str, filters: dict[str, Any]) -> None:
    given = [f"--{key.replace('_', '-')}" for key, value in filters.items() if value not in (None, False)]
    if given:
        raise click.UsageError(f"{', '.join(given)} chooses from the list; {name} is one entry: give one or the other.")


def _list(
    chosen: list[dict[str, Any]],
    format_: str,
    output: str | None,
    text: Callable[[list[dict[str, Any]]], str],
    rows: Callable[[list[dict[str, Any]]], Iterable[Mapping[str, Any]]],
) -> None:
    if format_ != "text":
        deliver(_data(list(rows(chosen)), format_), output)
    elif chosen:
        deliver(text(chosen), output)
    else:
        remark("no entry is like that")


def _data(value: Any, format_: str) -> str:
    if format_ == "json":
        return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    import yaml

    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=116)
    return text


def _model_table(chosen: list[dict[str, Any]]) -> str:
    from cli.text.catalog import model_table

    return model_table(chosen)


def _gpu_table(chosen: list[dict[str, Any]]) -> str:
    from cli.text.catalog import gpu_table

    return gpu_table(chosen)


def _model_rows(chosen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from models_catalog.loader import model_fields
    from models_catalog.schema import ModelSpec

    return [_model_mapping(ModelSpec(**model_fields(entry, entry["name"]))) for entry in chosen]


def _model_mapping(model: Any) -> dict[str, Any]:
    """A model as JSON holds it: every field, unset ones as null, and the parameters by the memory rule's formulas."""
    from dataclasses import asdict

    from constraints.memory.counts import parameter_counts

    total, active = parameter_counts(model)
    data = json.loads(json.dumps(asdict(model)))
    data["total_parameters"] = data["total_parameters"] or total
    data["active_parameters"] = data["active_parameters"] or active
    first = {
        key: data.pop(key) for key in ("name", "hf_id", "aliases", "family", "total_parameters", "active_parameters")
    }
    counts = {"computed_total_parameters": total, "computed_active_parameters": active}
    return {**first, **counts, **data}


def _one_model(name: str, format_: str) -> str:
    from models_catalog.loader import find_model

    model = find_model(name)
    if format_ == "yaml":
        from models_catalog.writing import entry_text

        return entry_text(model)
    if format_ == "json":
        from models_catalog.provenance import source_of

        return _data(_model_mapping(model) | {"source_of": source_of(model)}, "json")
    from cli.text.entry import model_page

    return model_page(model)


def _one_gpu(name: str, format_: str) -> str:
    from models_catalog.loader import find_gpu

    gpu = find_gpu(name)
    if format_ == "yaml":
        from models_catalog.writing import entry_text

        return entry_text(gpu)
    if format_ == "json":
        from dataclasses import asdict

        from models_catalog.provenance import source_of

        return _data(json.loads(json.dumps(asdict(gpu))) | {"source_of": source_of(gpu)}, "json")
    from cli.text.entry import gpu_page

    return gpu_page(gpu)
