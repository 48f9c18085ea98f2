"""Hugging Face configs: as the hub serves them, and as nobody should.

``configs/*.json`` hold what the hub's ``config.json`` files say, written anew: keys left out there are left out here, keys
that have nothing to do with sizes are there too. Read by transformers 5.24.0's own configuration classes, all of them give
the layers, heads, widths, windows and tying that are read here.
"""

from __future__ import annotations

import copy
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constraints.memory.counts import parameter_counts
from models_catalog.errors import InvalidEntry
from models_catalog.huggingface import MODEL_TYPES, model_from_hf
from models_catalog.huggingface.reader import Reader
from models_catalog.huggingface.wrappers import language_part
from models_catalog.loader import all_models, find_model, load_model, read_model
from models_catalog.names import resolve
from models_catalog.schema import ModelSpec

CONFIGS = {path.stem: path for path in sorted((Path(__file__).parent / "configs").glob("*.json"))}

PUBLISHED = {
    "bloom-176b": 176_247_271_424,
    "command-r-plus": 103_810_674_688,
    "command-r": 34_980_831_232,
    "dbrx": 131_596_523_520,
    "deepseek-v2": 235_741_434_880,
    "deepseek-v2-lite": 15_706_484_224,
    "deepseek-v3": 671_026_419_200,
    "deepseek-v4-flash": 284_300_000_000,
    "ernie-4.5-21b-a3b": 21_825_437_888,
    "exaone-4.0-32b": 32_003_200_000,
    "falcon-40b": 41_303_293_952,
    "falcon-7b": 6_921_720_704,
    "gemma-2-27b": 27_227_128_320,
    "gemma-2-9b": 9_241_705_984,
    "gemma-3-1b": 999_885_952,
    "gemma-7b": 8_537_680_896,
    "glm-5.2": 743_377_000_704,
    "gpt-neox-20b": 20_554_567_680,
    "gpt-oss-20b": 20_914_757_184,
    "gpt2-large": 774_030_080,
    "granite-3.1-8b": 8_170_848_256,
    "kimi-k2": 1_026_408_232_448,
    "llama-2-7b": 6_738_415_616,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.2-1b": 1_235_814_400,
    "minimax-m2": 228_689_764_864,
    "mistral-7b-v0.1": 7_241_732_096,
    "mistral-nemo-base-2407": 12_247_782_400,
    "mixtral-8x7b": 46_702_792_704,
    "moonlight-16b-a3b": 15_960_111_936,
    "nemotron-3-nano-30b-a3b": 31_577_940_288,
    "olmo-2-1124-7b": 7_298_617_344,
    "olmoe-1b-7b": 6_919_161_856,
    "phi-2": 2_779_683_840,
    "phi-3-mini-4k": 3_821_079_552,
    "phi-4": 14_659_507_200,
    "qwen1.5-moe-a2.7b": 14_315_784_192,
    "qwen2-57b-a14b": 57_409_400_832,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-0.6b": 596_049_920,
    "qwen3-235b-a22b": 235_093_634_560,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-8b": 8_190_735_360,
    "starcoder2-15b": 15_957_889_024,
    "step-3.5-flash": 199_003_600_000,  # 196.81e9 with a gate for each head; Bridge builds one for each channel
}
"""Parameters as the hub counts them or the model's card says, MTP layers left out."""

NOT_IN_A_CONFIG = {
    "name",
    "hf_id",
    "family",
    "aliases",
    "sources",
    "note",
    "total_parameters",
    "active_parameters",
    "parameters_exact",
    "parameters_include_mtp",
    "make_vocab_size_divisible_by",
}

NOT_IN_THIS_CONFIG = {"qwen3-next-80b-a3b": {"mtp_num_layers"}}  # its checkpoint has an MTP layer that it does not name


def config(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(CONFIGS[name].read_text(encoding="utf-8"))
    return data


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_parameters_are_those_of_the_published_model(name: str) -> None:
    total, _ = parameter_counts(read_model(str(CONFIGS[name])))
    assert total == pytest.approx(PUBLISHED[name], rel=1e-3)


@pytest.mark.parametrize("name", [name for name in CONFIGS if resolve("model", name) is not None])
def test_a_config_gives_the_shipped_entry(name: str) -> None:
    read, shipped = read_model(str(CONFIGS[name])), load_model(name)
    differing = {
        f.name: (getattr(read, f.name), getattr(shipped, f.name))
        for f in fields(ModelSpec)
        if f.name not in NOT_IN_A_CONFIG | NOT_IN_THIS_CONFIG.get(name, set())
        and getattr(read, f.name) != getattr(shipped, f.name)
    }
    assert not differing, f"read, shipped: {differing}"


def test_every_kind_that_is_read_has_a_config_here_or_is_close_kin() -> None:
    seen = {language_part(Reader(config(name), name), MODEL_TYPES)[0].config["model_type"] for name in CONFIGS}
    kin = {  # the same function as another, or one line more
        "bailing_moe_v2",
        "cohere2",
        "deepseek_v32",
        "ernie4_5",
        "glm4_moe_lite",
        "granitemoeshared",
        "hy_v3",
        "mimo",
        "olmo3",
        "phimoe",
    }
    assert set(MODEL_TYPES) - seen == kin


def test_every_family_of_the_catalog_that_has_a_config_is_compared_with_one() -> None:
    without = {"gpt3", "gpt_mcore", "gpt_sc21", "grok", "nemotron3"}  # born in Megatron, NeMo and JAX
    compared = {load_model(name).family for name in CONFIGS if resolve("model", name) is not None}
    assert {model.family for model in all_models()} - compared <= without


def changed(name: str, **changes: Any) -> ModelSpec:
    data = config(name)
    for key, value in changes.items():
        if value is ...:
            del data[key]
        else:
            data[key] = value
    return model_from_hf(data, "config.json")


WRONG = [
    ("llama-3.1-70b", {"model_type": ...}, "model_type", "missing"),
    ("llama-3.1-70b", {"model_type": "lama"}, "model_type", "'lama'"),
    ("llama-3.1-70b", {"model_type": 3}, "model_type", "text"),
    ("llama-3.1-70b", {"model_type": "minimax"}, "model_type", "lightning attention"),
    ("llama-3.1-70b", {"hidden_size": ...}, "hidden_size", "missing"),
    ("llama-3.1-70b", {"hidden_size": None}, "hidden_size", "missing"),
    ("llama-3.1-70b", {"hidden_size": "8192"}, "hidden_size", "whole number"),
    ("llama-3.1-70b", {"hidden_size": 8192.0}, "hidden_size", "whole number"),
    ("llama-3.1-70b", {"intermediate_size": ...}, "intermediate_size", "missing"),
    ("llama-3.1-70b", {"num_attention_heads": True}, "num_attention_heads", "whole number"),
    ("llama-3.1-70b", {"num_hidden_layers": 0}, "num_hidden_layers", "from 1"),
    ("llama-3.1-70b", {"num_hidden_layers": 10**8}, "num_hidden_layers", "to 10000"),
    ("llama-3.1-70b", {"vocab_size": -5}, "vocab_size", "whole number"),
    ("llama-3.1-70b", {"tie_word_embeddings": "no"}, "tie_word_embeddings", "true or false"),
    ("mixtral-8x7b", {"num_local_experts": ...}, "num_local_experts", "missing"),
    ("mixtral-8x7b", {"num_experts_per_tok": 9}, "num_experts_per_tok", "more than num_local_experts 8"),
    ("qwen3-30b-a3b", {"mlp_only_layers": [48]}, "mlp_only_layers", "names layer 48"),
    ("qwen3-30b-a3b", {"mlp_only_layers": "none"}, "mlp_only_layers", "list of whole numbers"),
    ("qwen3-next-80b-a3b", {"layer_types": ["full_attention"] * 47}, "layer_types", "47 entries"),
    ("qwen3-next-80b-a3b", {"layer_types": ["mamba"] * 48}, "layer_types", "'mamba'"),
    ("gpt-oss-20b", {"layer_types": ["sliding_attention"] * 23}, "layer_types", "23 entries, the model has 24"),
    ("gpt-oss-20b", {"layer_types": 24}, "layer_types", "list"),
    ("gemma-2-9b", {"sliding_window": None, "layer_types": ["sliding_attention"] * 42}, "sliding_window", "missing"),
    ("deepseek-v3", {"kv_lora_rank": ...}, "kv_lora_rank", "missing"),
    ("deepseek-v3", {"first_k_dense_replace": 62}, "first_k_dense_replace", "more than num_hidden_layers 61"),
    ("deepseek-v3", {"topk_group": 9}, "topk_group", "more than n_group 8"),
    ("deepseek-v3", {"topk_group": None}, "topk_group", "missing"),
    ("deepseek-v3", {"num_nextn_predict_layers": 10**6}, "num_nextn_predict_layers", "to 100"),
    ("deepseek-v2", {"topk_method": 1}, "topk_method", "text"),
    ("glm-5.2", {"index_topk": ...}, "index_topk", "missing"),
    ("nemotron-h-8b", {"hybrid_override_pattern": ...}, "hybrid_override_pattern", "missing"),
    ("nemotron-h-8b", {"hybrid_override_pattern": "M-*"}, "hybrid_override_pattern", "3 layers"),
    ("nemotron-h-8b", {"hybrid_override_pattern": "X" * 52}, "hybrid_override_pattern", "symbols"),
    ("nemotron-h-8b", {"mamba_num_heads": ...}, "mamba_num_heads", "missing"),
    ("exaone-4.0-32b", {"sliding_window_pattern": "LLX", "layer_types": None}, "sliding_window_pattern", "LLLG"),
    ("ernie-4.5-21b-a3b", {"moe_layer_start_index": 29}, "moe_layer_start_index", "more than"),
    ("dbrx", {"ffn_config": ...}, "ffn_config", "missing"),
    ("dbrx", {"attn_config": []}, "attn_config", "mapping"),
    ("dbrx", {"ffn_config": {"ffn_hidden_size": 10752, "moe_top_k": 4}}, "ffn_config.moe_num_experts", "missing"),
    (
        "llama-4-scout-17b-16e",
        {"text_config": {"model_type": "llama4_text"}},
        "text_config.num_hidden_layers",
        "missing",
    ),
    ("deepseek-v4-flash", {"compress_ratios": [0] * 42}, "compress_ratios", "42 entries, the model has 43"),
    ("deepseek-v4-flash", {"compress_ratios": ...}, "compress_ratios", "missing, and so is layer_types"),
    ("deepseek-v4-flash", {"qk_rope_head_dim": 512}, "qk_rope_head_dim", "part of head_dim"),
    ("step-3.5-flash", {"moe_layers_enum": "3,4,45"}, "moe_layers_enum", "names layer 45"),
    ("step-3.5-flash", {"moe_layers_enum": "3-44"}, "moe_layers_enum", "commas"),
    ("step-3.5-flash", {"layer_types": ["full_attention"] * 46}, "layer_types", "46 entries"),
    ("k-exaone-236b-a23b", {"is_moe_layer": [True] * 47}, "is_moe_layer", "48 layers"),
    ("gemma-3-4b", {"text_config": {"model_type": "gemma9"}}, "text_config.model_type", "'gemma9'"),
]


@pytest.mark.parametrize(("name", "changes", "key", "said"), WRONG)
def test_a_wrong_key_is_refused_by_its_name(name: str, changes: dict[str, Any], key: str, said: str) -> None:
    with pytest.raises(InvalidEntry) as caught:
        changed(name, **changes)
    assert caught.value.field == key
    assert said in str(caught.value)
    assert str(caught.value).startswith("config.json: ")


def test_an_error_says_where_the_key_stands(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    data = config("llama-3.1-70b") | {"num_hidden_layers": "eighty"}
    path.write_text(json.dumps(data, indent=1, sort_keys=True), encoding="utf-8")
    line = 1 + next(i for i, text in enumerate(path.read_text().splitlines()) if "num_hidden_layers" in text)
    with pytest.raises(InvalidEntry, match=rf"config\.json:{line}:\d+: num_hidden_layers is 'eighty'"):
        read_model(str(path))


def test_an_unknown_kind_is_told_which_are_known() -> None:
    with pytest.raises(InvalidEntry) as caught:
        changed("llama-3.1-70b", model_type="whisper")
    assert all(kind in str(caught.value) for kind in MODEL_TYPES)


@pytest.mark.parametrize("key", ["quantization_config", "rope_scaling", "torch_dtype", "auto_map", "architectures"])
def test_what_has_nothing_to_do_with_sizes_is_not_looked_at(key: str) -> None:
    assert changed("deepseek-v3", **{key: {"anything": [1, "at all"]}}) == changed("deepseek-v3")


@pytest.mark.parametrize("key", ["num_key_value_heads", "head_dim"])
def test_null_is_not_set(key: str) -> None:
    assert changed("llama-2-7b", **{key: None}) == changed("llama-2-7b")


@pytest.mark.parametrize(
    ("name", "changes", "field", "value"),
    [
        ("llama-3.1-70b", {"num_key_value_heads": ...}, "num_query_groups", 64),
        ("mistral-7b-v0.1", {"sliding_window": ...}, "window_size", 4096),
        ("mistral-7b-v0.1", {"sliding_window": None}, "window_size", None),
        ("qwen3-8b", {"head_dim": ...}, "kv_channels", 128),
        ("qwen2.5-7b", {"use_sliding_window": True, "max_window_layers": 14}, "window_size", 131072),
        ("gpt-oss-20b", {"layer_types": ...}, "window_attn_skip_freq", 2),
        ("gemma-2-9b", {}, "window_attn_skip_freq", 2),
        ("gemma-3-1b", {}, "window_attn_skip_freq", 6),
        ("exaone-4.0-32b", {"layer_types": ...}, "window_attn_skip_freq", 4),
        ("llama-4-maverick-17b-128e", {}, "moe_layer_freq", (0, 1) * 24),
        ("qwen3-30b-a3b", {"decoder_sparse_step": 2}, "moe_layer_freq", (0, 1) * 24),
        ("qwen3-30b-a3b", {"mlp_only_layers": [0]}, "moe_layer_freq", (0, *[1] * 47)),
        ("deepseek-v3", {"mlp_layer_types": ["dense"] * 2 + ["sparse"] * 59}, "moe_layer_freq", (0, 0, *[1] * 59)),
        ("deepseek-v3", {"num_nextn_predict_layers": ...}, "mtp_num_layers", None),
        ("deepseek-v2-lite", {}, "moe_router_num_groups", None),
        ("deepseek-v2", {}, "moe_router_group_topk", 3),
        ("ernie-4.5-21b-a3b", {"moe_layer_end_index": None}, "moe_layer_freq", (0, *[1] * 27)),
        ("gemma-7b", {}, "share_embeddings_and_output_weights", True),
        ("falcon-40b", {}, "norms_per_layer", 2),
        ("falcon-7b", {}, "norms_per_layer", 1),
        ("falcon-7b", {}, "num_query_groups", 1),
        ("granite-4.0-h-tiny", {}, "num_layers", 80),
        ("dbrx", {}, "num_query_groups", 8),
    ],
)
def test_defaults_and_patterns(name: str, changes: dict[str, Any], field: str, value: object) -> None:
    assert getattr(changed(name, **changes), field) == value


@pytest.mark.parametrize(
    ("key", "value"),
    [("hidden_size_per_layer_input", 256), ("num_kv_shared_layers", 20), ("use_double_wide_mlp", True)],
)
def test_a_shape_that_the_catalog_cannot_say_is_refused(key: str, value: object) -> None:
    data = config("gemma-4-26b-a4b")
    data["text_config"][key] = value
    with pytest.raises(InvalidEntry, match=f"text_config.{key} is .*cannot say"):
        model_from_hf(data, "config.json")


def test_layers_with_a_window_may_have_heads_of_their_own() -> None:
    model = changed("step-3.5-flash")
    assert [(shape.heads, count) for shape, count in model.attention_shapes] == [(64, 12), (96, 33)]
    assert model.mtp_kinds[0].feedforward == "dense"


def test_words_for_compression_mean_what_the_ratios_mean() -> None:
    words = {0: "sliding_attention", 4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}
    ratios = config("deepseek-v4-flash")["compress_ratios"][:43]
    spelled = changed("deepseek-v4-flash", compress_ratios=..., layer_types=[words[ratio] for ratio in ratios])
    assert spelled == changed("deepseek-v4-flash")


def test_words_for_layers_mean_what_the_pattern_means() -> None:
    words = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
    pattern = config("nemotron-3-nano-30b-a3b")["hybrid_override_pattern"]
    spelled = changed(
        "nemotron-3-nano-30b-a3b", hybrid_override_pattern=..., layers_block_type=[words[symbol] for symbol in pattern]
    )
    assert spelled == changed("nemotron-3-nano-30b-a3b")


@pytest.mark.parametrize(
    "name", ["gemma-3-4b", "llama-4-scout-17b-16e", "qwen3-vl-30b-a3b", "qwen2.5-vl-7b", "qwen3.5-27b"]
)
def test_a_wrapper_is_read_by_its_language_part_and_says_so(name: str) -> None:
    assert f"the language part of {config(name)['model_type']} only" in (read_model(str(CONFIGS[name])).note or "")


def test_a_wrapper_that_nobody_has_heard_of_is_read_by_a_language_part_that_is_known() -> None:
    inner = config("qwen2.5-7b")
    model = model_from_hf({"model_type": "some_vl", "llm_config": inner}, "config.json")
    assert parameter_counts(model)[0] == PUBLISHED["qwen2.5-7b"]
    assert "some_vl" in (model.note or "")


def test_the_outer_config_says_whether_embeddings_are_tied() -> None:
    data = config("qwen3-vl-30b-a3b")
    data["text_config"]["tie_word_embeddings"] = True
    assert not model_from_hf(data, "config.json").share_embeddings_and_output_weights
    del data["tie_word_embeddings"]
    assert model_from_hf(data, "config.json").share_embeddings_and_output_weights


def test_a_folder_is_read_by_its_config_and_gives_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "My_Model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config("qwen3-8b")), encoding="utf-8")
    assert find_model(str(folder)).name == "my-model"
    assert find_model(str(folder / "config.json")).num_layers == 36


def test_the_hubs_cache_gives_name_and_id(tmp_path: Path) -> None:
    folder = tmp_path / "models--Qwen--Qwen3-8B" / "snapshots" / "b968826d9c46dd6066d109eabc6255188de91218"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config("qwen3-8b")), encoding="utf-8")
    model = find_model(str(folder))
    assert (model.name, model.hf_id) == ("qwen3-8b", "Qwen/Qwen3-8B")


JUNK = st.sampled_from(
    [None, True, -1, 0, 1, 7, 10**12, 1.5, "", "x", [], [0], [1, 2], ["full_attention"], {}, {"a": 1}, [None]]
)


@given(st.data())
@settings(derandomize=True, max_examples=400, deadline=None)
def test_no_config_however_odd_brings_anything_but_a_model_or_a_named_key(data: st.DataObject) -> None:
    odd = copy.deepcopy(config(data.draw(st.sampled_from(sorted(CONFIGS)))))
    level = odd
    if "text_config" in odd and data.draw(st.booleans()):
        level = odd["text_config"]
    for key in data.draw(st.lists(st.sampled_from(sorted(level)), min_size=1, max_size=3, unique=True)):
        level[key] = data.draw(JUNK)
    try:
        model = model_from_hf(odd, "config.json")
    except InvalidEntry as error:
        assert str(error).startswith("config.json")
    else:
        assert isinstance(model, ModelSpec)
