"""``meshwright catalog``: tables, filters, one entry with its sources, formats, imports that ``solve`` reads, start-up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from cli.catalog_filter import parameter_count
from cli.main import cli
from cli.text.catalog import gpu_table, model_table, parameters
from cli.text.table import Column, table
from constraints.errors import RequestError
from models_catalog.errors import CatalogError
from models_catalog.index import INDEX, entries, index_text
from models_catalog.json_schema import SCHEMAS, generated, published
from models_catalog.loader import all_gpus, all_models, find_gpu, load_gpu, load_model, model_names, read_model

CONFIGS = Path(__file__).parent / "configs"


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["catalog", *words], catch_exceptions=False)


def listed(*words: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(run("models", *words, "--format", "json").stdout)
    return rows


def names(*words: str) -> set[str]:
    return {row["name"] for row in listed(*words)}


# What is listed


def test_every_model_is_listed_in_every_format() -> None:
    text = run("models").stdout
    assert all(f"{name} " in text for name in model_names())
    assert names() == set(model_names())
    assert [row["name"] for row in yaml.safe_load(run("models", "--format", "yaml").stdout)] == model_names()


def test_json_rows_have_what_the_contract_names_and_both_counts() -> None:
    row = next(row for row in listed() if row["name"] == "llama-3.1-70b")
    assert list(row)[:6] == ["name", "hf_id", "aliases", "family", "total_parameters", "active_parameters"]
    assert row["computed_total_parameters"] == 70_553_706_496
    assert row["num_layers"] == 80 and row["kv_channels"] == 128


@pytest.mark.parametrize(
    ("words", "among", "not_among"),
    [
        (["--family", "qwen3"], "qwen3-8b", "qwen2.5-7b"),
        (["--family", "llama"], "llama-2-7b", "mixtral-8x7b"),
        (["--family", "DeepSeek-V3"], "deepseek-v3", "deepseek-v2"),
        (["--moe"], "mixtral-8x7b", "llama-3.1-8b"),
        (["--dense"], "llama-3.1-8b", "mixtral-8x7b"),
        (["--mla"], "deepseek-v3", "glm-4.5-air"),
        (["--min-params", "100b"], "llama-3.1-405b", "llama-3.1-70b"),
        (["--max-params", "1.5b"], "qwen3-0.6b", "llama-3.1-8b"),
        (["--min-params", "70e", "--max-params", "71B"], None, None),
        (["--min-params", "70b", "--max-params", "71B"], "llama-3.1-70b", "llama-3.1-8b"),
        (["--search", "moonshotai"], "kimi-k2", "deepseek-v3"),
        (["--search", "Llama 70b"], "llama-3.1-70b", "llama-3.1-8b"),
        (["--moe", "--max-params", "30b", "--search", "oss"], "gpt-oss-20b", "gpt-oss-120b"),
    ],
)
def test_filters(words: list[str], among: str | None, not_among: str | None) -> None:
    if among is None:
        with pytest.raises(RequestError, match=r"70b or 1\.5t"):
            run("models", *words)
        return
    chosen = names(*words)
    assert among in chosen and not_among not in chosen


def test_dense_and_moe_are_all_there_is() -> None:
    assert names("--moe") | names("--dense") == set(model_names())
    assert not names("--moe") & names("--dense")


def test_filters_see_every_entry_the_way_the_entry_itself_does() -> None:
    by_name = {model.name: model for model in all_models()}
    assert names("--moe") == {name for name, model in by_name.items() if model.is_moe}
    assert names("--mla") == {name for name, model in by_name.items() if model.multi_latent_attention}
    linear = {n for n, m in by_name.items() if {kind.mixer for kind in m.layer_kinds} & {"mamba", "gdn"}}
    assert names("--hybrid") == linear


def test_nothing_like_that_is_an_empty_list_and_says_so() -> None:
    assert listed("--search", "nothing-is-called-this") == []
    result = run("models", "--search", "nothing-is-called-this")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no entry" in result.stderr


@pytest.mark.parametrize(
    ("word", "count"),
    [("70b", 70 * 10**9), ("1.5T", 15 * 10**11), ("500m", 5 * 10**8), ("7000000000", 7 * 10**9), ("0.6 B", 6 * 10**8)],
)
def test_parameter_counts_are_read_as_people_write_them(word: str, count: int) -> None:
    assert parameter_count("--min-params", word, 0) == count


@pytest.mark.parametrize("word", ["", "b", "70bb", "-3b", "1e9", "seventy"])
def test_other_words_are_refused(word: str) -> None:
    with pytest.raises(RequestError, match="--min-params"):
        parameter_count("--min-params", word, 0)


def test_an_unknown_family_has_suggestions() -> None:
    with pytest.raises(RequestError, match="did you mean"):
        run("models", "--family", "lama3")


def test_a_name_and_a_filter_do_not_go_together() -> None:
    result = CliRunner().invoke(cli, ["catalog", "models", "qwen3-8b", "--moe"])
    assert result.exit_code == 2 and "--moe" in result.stderr


# One entry


def test_a_model_is_shown_with_every_number_and_its_source() -> None:
    text = run("models", "deepseek-v3").stdout
    for word in ("671,026,419,200", "kv_lora_rank", "([0]*3+[1]*58)", "[1]", "sources"):
        assert word in text


@pytest.mark.parametrize("word", ["deepseek-v3", "deepseek-ai/DeepSeek-V3", "DeepSeek_V3"])
def test_an_entry_is_found_by_name_alias_and_hub_id(word: str) -> None:
    shown = json.loads(run("models", word, "--format", "json").stdout)
    assert shown["name"] == "deepseek-v3"
    assert set(shown["source_of"]) >= {"num_layers", "vocab_size", "total_parameters"}


def test_a_file_is_shown_like_an_entry() -> None:
    assert "window_attn_skip_freq" in run("models", str(CONFIGS / "gpt-oss-20b.json")).stdout


@pytest.mark.parametrize(
    ("kind", "word", "close"), [("models", "lama-3.1-70b", "llama-3.1-70b"), ("gpus", "h1000", "h100")]
)
def test_an_unknown_name_has_suggestions(kind: str, word: str, close: str) -> None:
    with pytest.raises(CatalogError, match=close) as caught:
        run(kind, word)
    assert caught.value.exit_code == 2


def test_yaml_of_an_entry_is_the_entry(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(run("models", "kimi-k2", "--format", "yaml").stdout)
    assert read_model(str(tmp_path / "m.yaml")) == load_model("kimi-k2")
    (tmp_path / "g.yaml").write_text(run("gpus", "gb200", "--format", "yaml").stdout)
    assert find_gpu(str(tmp_path / "g.yaml")) == load_gpu("gb200")


def test_a_gpu_is_shown_with_every_number_and_its_source() -> None:
    text = run("gpus", "gb200").stdout
    for word in ("184.3 GiB", "900 GB/s", "2,500 TFLOP/s", "15 us", "[2]", "72"):
        assert word in text
    shown = json.loads(run("gpus", "gb200", "--format", "json").stdout)
    assert shown["nvlink_domain"] == 72 and "usable_gib" in shown["source_of"]


# How it looks


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("kind", ["model", "gpu"])
def test_tables_fit_the_terminal_and_cut_nothing(kind: str, width: int) -> None:
    text = (model_table if kind == "model" else gpu_table)(entries(kind).values(), width)
    assert max(map(len, text.splitlines())) <= width + 9, "escape sequences apart"
    assert all(name in text for name in entries(kind))
    assert "…" not in text and "..." not in text


def test_wide_enough_means_everything() -> None:
    narrow, wide = (model_table(entries("model").values(), width) for width in (80, 300))
    assert "Hugging Face" in wide and "Hugging Face" not in narrow


def test_a_cell_that_is_too_wide_stays_whole() -> None:
    text = table((Column("name"), Column("note", optional=True)), [("n" * 90, "x")], 80)
    assert "n" * 90 in text and "x" not in text


def test_plain_when_piped_and_without_colour() -> None:
    assert "\x1b" not in run("models").stdout
    shown = CliRunner().invoke(cli, ["catalog", "models"], color=True).stdout
    assert "\x1b" in shown


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (70_553_706_496, "70.6B"),
        (1_026_408_232_448, "1.03T"),
        (999_885_952, "1.00B"),
        (494_032_768, "494M"),
        (12, "12"),
    ],
)
def test_counts_have_three_digits(count: int, text: str) -> None:
    assert parameters(count) == text


# Import


def test_an_imported_config_is_what_solve_reads(tmp_path: Path) -> None:
    entry = tmp_path / "mine.yaml"
    result = run("import", str(CONFIGS / "deepseek-v2-lite.json"), "--name", "mine", "-o", str(entry))
    assert (result.exit_code, result.stdout) == (0, "")
    read, direct = read_model(str(entry)), read_model(str(CONFIGS / "deepseek-v2-lite.json"))
    assert read.name == "mine"
    assert (read.num_layers, read.layer_kinds, read.sources) == (27, direct.layer_kinds, direct.sources)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.json")), ids=lambda path: path.stem)
def test_every_config_survives_the_way_through_yaml(path: Path, tmp_path: Path) -> None:
    entry = tmp_path / f"{path.stem}.yaml"
    entry.write_text(run("import", str(path)).stdout, encoding="utf-8")
    assert read_model(str(entry)) == read_model(str(path))


# What ships beside the entries


def test_the_index_is_in_step_with_the_entries() -> None:
    assert INDEX.read_text(encoding="utf-8") == index_text(), "run python -m models_catalog.index"


def test_the_index_gives_what_the_files_give() -> None:
    assert all_models() == [load_model(name) for name in model_names()]


def test_an_entry_that_has_changed_is_read_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = json.loads(INDEX.read_text(encoding="utf-8"))
    rows["models/llama3/llama-3.1-8b.yaml"] = [0, {"name": "stale"}]
    stale = tmp_path / "index.json"
    stale.write_text(json.dumps(rows), encoding="utf-8")
    monkeypatch.setattr("models_catalog.index.INDEX", stale)
    assert entries("model")["llama-3.1-8b"]["name"] == "llama-3.1-8b"
    stale.write_text("not JSON", encoding="utf-8")
    assert len(entries("gpu")) == len(all_gpus())


@pytest.mark.parametrize("kind", ["model", "gpu"])
def test_schemas_are_in_step_with_the_shapes(kind: str) -> None:
    assert json.loads(published(kind)) == json.loads(generated(kind)), "run python -m models_catalog.json_schema"
    assert run("schema", kind).stdout == SCHEMAS[kind].read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["model", "gpu"])
def test_every_shipped_entry_is_as_its_schema_says(kind: str) -> None:
    schema = json.loads(published(kind))
    for entry in entries(kind).values():
        assert set(entry) <= set(schema["properties"])
        assert set(schema["required"]) <= set(entry)
        assert any(set(case["required"]) <= set(entry) for case in schema["anyOf"])
        assert [key for key, value in entry.items() if not _fits(value, schema["properties"][key])] == []


def _fits(value: object, shape: dict[str, Any]) -> bool:
    if "anyOf" in shape:
        return any(_fits(value, case) for case in shape["anyOf"])
    kinds: dict[str, tuple[type, ...]] = {
        "string": (str,),
        "integer": (int,),
        "number": (int, float),
        "boolean": (bool,),
        "array": (list,),
        "null": (type(None),),
    }
    return isinstance(value, kinds[shape["type"]]) and isinstance(value, bool) is (shape["type"] == "boolean")


# Start-up


def test_the_list_loads_neither_solver_nor_validator_nor_yaml() -> None:
    script = (
        "import sys; from cli.main import cli\n"
        "cli.main(['catalog', 'models'], standalone_mode=False)\n"
        "print(sorted({'ortools', 'pydantic', 'yaml', 'rich'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stderr.strip() == "[]"
    assert "llama-3.1-70b" in done.stdout


@pytest.mark.heavy
def test_the_list_costs_less_than_half_as_much_again_as_three_imports() -> None:
    listing = [sys.executable, "-m", "cli.main", "catalog", "models"]
    imports = [sys.executable, "-c", "import yaml, pydantic, click"]
    costs = {tuple(words): min(_cpu_seconds(words) for _ in range(7)) for words in (listing, imports)}
    assert costs[tuple(listing)] < 1.5 * costs[tuple(imports)]


def _cpu_seconds(words: list[str]) -> float:
    before = os.times()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system
