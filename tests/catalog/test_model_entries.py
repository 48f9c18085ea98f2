"""The models that ship: whole, named once, sourced, and found by every name that they carry."""

from __future__ import annotations

from pathlib import Path

import pytest

from models_catalog import loader
from models_catalog.documents import parse_document, read_document
from models_catalog.errors import UnknownName
from models_catalog.loader import HOME, all_models, find_model, load_model, model_names
from models_catalog.names import close_names, files_of, resolve, spelling
from models_catalog.provenance import numbers, source_of
from models_catalog.schema import ModelSpec
from models_catalog.validation import validated_model
from models_catalog.writing import entry_text

MODELS = pytest.mark.parametrize("model", all_models(), ids=lambda model: model.name)

LOOSE = {
    "DeepSeekV3": "deepseek-v3",
    "DeepSeekV4 Flash": "deepseek-v4-flash",
    "GPT OSS 120B": "gpt-oss-120b",
    "GPT-1T": "gpt-1008b",
    "GPT-3-175B": "gpt3-175b",
    "GPT3-20B": "gpt3-20b",
    "Kimi_K2": "kimi-k2",
    "LLAMA2-70B": "llama-2-70b",
    "LLAMA3-405B": "llama-3.1-405b",
    "LLAMA3.1_405B": "llama-3.1-405b",
    "LLAMA3_8B": "llama-3-8b",
    "LLAMA4-Scout-LLM": "llama-4-scout-17b-16e",
    "MT-NLG-530B": "gpt-529.6b",
    "Nemotron-15B": "nemotron-4-15b",
    "Nemotron-340B": "nemotron-4-340b",
    "Nemotron_3_Ultra": "nemotron-3-ultra-550b-a55b",
    "Qwen3_235B_a22B": "qwen3-235b-a22b",
    "glm5-2": "glm-5.2",
    "gpt3_15b_8t_release": "nemotron-4-15b",
    "meta-llama/Llama-3.1-8B": "llama-3.1-8b",
    "google/gemma-3-4b-it": "gemma-3-4b",
    "deepseek-ai/DeepSeek-V3-Base": "deepseek-v3",
    "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16": "nemotron-3-super-120b-a12b",
}
"""As performance tables, papers and recipes name them."""

RECIPES = [
    "LGAI-EXAONE/EXAONE-4.0-1.2B",
    "LGAI-EXAONE/K-EXAONE-236B-A23B",
    "LGAI-EXAONE/K-EXAONE-2.0-750B-A37B",
    "MiniMaxAI/MiniMax-M2",
    "MiniMaxAI/MiniMax-M3",
    "Qwen/Qwen2.5-7B",
    "Qwen/Qwen3-8B",
    "Qwen/Qwen3-30B-A3B",
    "Qwen/Qwen3-235B-A22B",
    "Qwen/Qwen3-Next-80B-A3B-Instruct",
    "Qwen/Qwen3-Omni-30B-A3B-Instruct",
    "Qwen/Qwen3-VL-8B-Instruct",
    "Qwen/Qwen3-VL-30B-A3B-Instruct",
    "Qwen/Qwen3-VL-235B-A22B-Instruct",
    "Qwen/Qwen3.5-0.8B",
    "Qwen/Qwen3.5-27B",
    "Qwen/Qwen3.5-397B-A17B",
    "Qwen/Qwen3.6-35B-A3B",
    "allenai/OLMoE-1B-7B-0125",
    "deepseek-ai/DeepSeek-V2-Lite",
    "deepseek-ai/DeepSeek-V3",
    "deepseek-ai/DeepSeek-V4-Flash",
    "deepseek-ai/DeepSeek-V4-Pro",
    "google/gemma-3-1b-pt",
    "google/gemma-3-27b-it",
    "meta-llama/Llama-3.2-1B",
    "meta-llama/Meta-Llama-3-70B",
    "meta-llama/Meta-Llama-3.1-405B",
    "mistralai/Ministral-3-14B-Instruct-2512",
    "moonshotai/Kimi-K2-Instruct",
    "moonshotai/Kimi-K2.5",
    "moonshotai/Moonlight-16B-A3B",
    "nvidia/Nemotron-3-Nano-Omni-30B-A3B-Reasoning-BF16",
    "nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16",
    "nvidia/NVIDIA-Nemotron-Nano-12B-v2-VL-BF16",
    "nvidia/Nemotron-H-56B-Base-8K",
    "openai/gpt-oss-20b",
    "stepfun-ai/Step-3.5-Flash",
    "stepfun-ai/Step-3.7-Flash",
    "zai-org/GLM-4.5-Air",
    "zai-org/GLM-4.5V",
    "zai-org/GLM-5.1",
    "zai-org/GLM-5.2",
]
"""Hugging Face ids that Megatron Bridge's recipes name (``src/megatron/bridge/recipes``)."""


def names_of(model: ModelSpec) -> list[str]:
    return [model.name, *model.aliases, *([model.hf_id, model.hf_id.rpartition("/")[2]] if model.hf_id else [])]


def file_of(model: ModelSpec) -> Path:
    return files_of("model")[model.name]


@MODELS
def test_an_entry_is_whole(model: ModelSpec) -> None:
    assert validated_model(read_document(str(file_of(model))), model.name) == model


@MODELS
def test_an_entry_is_named_after_its_file_and_its_family_after_the_folder(model: ModelSpec) -> None:
    assert (file_of(model).stem, file_of(model).parent.name) == (model.name, model.family)


@MODELS
def test_an_entry_reads_as_the_catalog_writes_it(model: ModelSpec) -> None:
    assert file_of(model).read_text(encoding="utf-8") == entry_text(model)


@MODELS
def test_every_number_of_an_entry_has_a_source(model: ModelSpec) -> None:
    assert model.sources[0].startswith("architecture integers: ")
    assert not [name for name in numbers(model) if name not in source_of(model)]
    counted = any(source.startswith("parameter counts: ") for source in model.sources)
    assert counted == (model.total_parameters is not None)


@MODELS
def test_a_name_is_the_hugging_face_name_in_kebab_case(model: ModelSpec) -> None:
    assert model.name == model.name.lower() and not set(model.name) - set("abcdefghijklmnopqrstuvwxyz0123456789.-")
    if model.hf_id is None:
        return
    hub = model.hf_id.rpartition("/")[2].lower().replace("_", ".")
    words = set(model.name.split("-"))
    strange = words - set(hub.split("-")) - {"llama", "176b"}
    assert not strange, f"{hub} has no {strange}"


@MODELS
def test_every_name_of_an_entry_finds_it_however_it_is_written(model: ModelSpec) -> None:
    for name in names_of(model):
        for written in (name, name.upper(), name.replace("-", "_"), name.replace("-", " "), f" {name} "):
            assert resolve("model", written) == model.name


def test_no_name_belongs_to_two_entries() -> None:
    owners: dict[str, str] = {}
    for model in all_models():
        names = {spelling(name) for name in names_of(model)}
        assert all(owners.setdefault(name, model.name) == model.name for name in names)


@MODELS
def test_every_alias_says_something_new(model: ModelSpec) -> None:
    hub = spelling(model.hf_id.rpartition("/")[2]) if model.hf_id else ""
    aliases = [spelling(alias) for alias in model.aliases]
    assert len(set(aliases)) == len(aliases) and not {spelling(model.name), hub} & set(aliases)


@pytest.mark.parametrize(("name", "entry"), LOOSE.items())
def test_names_of_tables_papers_and_recipes_are_understood(name: str, entry: str) -> None:
    assert load_model(name).name == entry


@pytest.mark.parametrize("hf_id", RECIPES)
def test_the_models_of_the_recipes_are_there(hf_id: str) -> None:
    assert load_model(hf_id).family is not None


def test_digits_that_are_apart_stay_apart() -> None:
    assert spelling("qwen2.5-7b") != spelling("qwen2-57b")
    assert resolve("model", "gpt-17b") is None


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("llama-3.1-71b", "llama-3.1-70b"),
        ("deepsek-v3", "deepseek-v3"),
        ("mixtral", "mixtral-8x7b"),
        ("glm-5.3", "glm-5"),
    ],
)
def test_an_unknown_name_gets_names_like_it(name: str, close: str) -> None:
    assert close in close_names("model", name)
    with pytest.raises(UnknownName, match=close):
        find_model(name)


def test_one_model_costs_one_parsed_file(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def counting(text: str, origin: str) -> object:
        parsed.append(Path(origin).stem)
        return parse_document(text, origin)

    monkeypatch.setattr(loader, "parse_document", counting)
    load_model.cache_clear()
    for word in ("llama-3.1-70b", "kimi-k2-1t", "openai/gpt-oss-20b"):
        find_model(word)
    assert parsed == ["llama-3.1-70b", "kimi-k2", "gpt-oss-20b"]


def test_the_catalog_has_every_file_under_models() -> None:
    assert sorted(path.stem for path in (HOME / "models").rglob("*") if path.is_file()) == model_names()


@MODELS
def test_an_entry_that_is_part_of_a_model_says_so(model: ModelSpec) -> None:
    words = {"vl", "omni", "4.5v", "internvl3.5", "scout", "maverick", "k2.5", "ministral", "3.7"}
    families = {"qwen3_5", "qwen3_5_moe", "gemma4", "minimax_m3"}
    if words & set(model.name.split("-")) or model.family in families:
        assert "language part" in (model.note or "")
