"""An entry that is written reads as the same model, and a pattern as the same layers."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models_catalog.documents import parse_document
from models_catalog.model_checks import CHOICES
from models_catalog.patterns import PatternError, parse_pattern, pattern_text
from models_catalog.schema import ModelSpec
from models_catalog.validation import validated_model
from models_catalog.writing import entry_text

SIZE = st.integers(1, 4096)
WORDS = (
    st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), min_size=1, max_size=60)
    .map(str.strip)
    .filter(bool)
)
NAME = st.from_regex(r"[a-z][a-z0-9]{0,6}(-[a-z0-9.]{1,5}){0,2}", fullmatch=True)


def maybe(value: st.SearchStrategy[Any], default: object = None) -> st.SearchStrategy[Any]:
    return st.just(default) | value


@st.composite
def entries(draw: st.DrawFn) -> ModelSpec:
    """Any entry that is whole: each kind of layer, with what it needs and some of what it may have."""
    layers, experts = draw(st.integers(1, 40)), draw(st.booleans())
    kind = draw(st.sampled_from(["plain", "latent", "indexed", "delta", "hybrid"]))
    by_layer = st.lists(st.integers(0, 1), min_size=layers, max_size=layers).map(tuple)
    every = st.integers(1, 8) | by_layer
    heads = draw(st.integers(1, 128))
    values: dict[str, Any] = {
        "name": draw(NAME),
        "num_layers": layers,
        "hidden_size": draw(st.integers(heads, 8192)),
        "num_attention_heads": heads,
        "vocab_size": draw(SIZE),
        "ffn_hidden_size": draw(maybe(SIZE)),
        "make_vocab_size_divisible_by": draw(st.sampled_from([128, 1280])),
        "should_pad_vocab": draw(st.booleans()),
        "gated_linear_unit": draw(st.booleans()),
        "qk_layernorm": draw(st.booleans()),
        "norms_per_layer": draw(st.sampled_from([1, 2, 4])),
        **{
            name: draw(st.sampled_from(CHOICES[name]))
            for name in ("normalization", "position_embedding_type", "softmax_type")
        },
        "hf_id": draw(maybe(NAME)),
        "family": draw(maybe(NAME)),
        "aliases": tuple(draw(st.lists(NAME, max_size=3))),
        "sources": tuple(draw(st.lists(WORDS, max_size=3))),
        "note": draw(maybe(WORDS)),
        "total_parameters": draw(maybe(st.integers(1, 10**13))),
        "mtp_num_layers": draw(maybe(st.integers(1, 4))),
    }
    if values["mtp_num_layers"]:
        values |= {"mtp_use_repeated_layer": draw(st.booleans()), "mtp_dense": draw(st.booleans())}
    if values["total_parameters"]:
        values["active_parameters"] = draw(maybe(st.integers(1, values["total_parameters"])))
        values["parameters_exact"] = draw(st.booleans())
    if kind in ("latent", "indexed"):
        values |= {"multi_latent_attention": True, "q_lora_rank": draw(maybe(SIZE))}
        values |= {name: draw(SIZE) for name in ("kv_lora_rank", "qk_head_dim", "qk_pos_emb_head_dim", "v_head_dim")}
    else:
        values |= {"num_query_groups": draw(maybe(st.integers(1, heads))), "kv_channels": draw(maybe(SIZE))}
        values["window_size"] = draw(maybe(SIZE))
        if values["window_size"]:
            values["window_attn_skip_freq"] = draw(maybe(every))
    if kind == "indexed":
        values |= {"experimental_attention_variant": "dsa", "dsa_indexer_topk_freq": draw(st.integers(1, 4))}
        values |= {f"dsa_indexer_{name}": draw(SIZE) for name in ("n_heads", "head_dim", "topk")}
    if kind == "delta":
        values |= {"experimental_attention_variant": draw(st.sampled_from(["gated_delta_net", "gdn", "gdn2"]))}
        values |= {"linear_attention_freq": draw(every)}
        values |= {
            f"linear_{name}": draw(SIZE)
            for name in ("num_key_heads", "num_value_heads", "key_head_dim", "value_head_dim")
        }
    if kind == "hybrid":
        symbols = "M*-E" if experts else "M*-"
        pattern = "M" + "".join(draw(st.lists(st.sampled_from(symbols), min_size=layers - 1, max_size=layers - 1)))
        values["hybrid_override_pattern"] = pattern + "/*-" * (values["mtp_num_layers"] or 0)
        values |= {f"mamba_{name}": draw(SIZE) for name in ("num_heads", "head_dim", "state_dim", "num_groups")}
    if experts:
        values |= {
            "num_moe_experts": draw(SIZE),
            "moe_router_topk": draw(SIZE),
            "moe_ffn_hidden_size": draw(maybe(SIZE)),
        }
        values["moe_router_load_balancing_type"] = draw(st.sampled_from(["aux_loss", ("aux_loss", "seq_aux_loss")]))
        if kind != "hybrid":
            values["moe_layer_freq"] = draw(every)
    return ModelSpec(**values)


@given(entries())
@settings(derandomize=True, max_examples=200, deadline=None)
def test_an_entry_that_is_written_reads_as_the_same_model(model: ModelSpec) -> None:
    text = entry_text(model)
    assert validated_model(parse_document(text, "own.yaml"), "own.yaml") == model
    assert entry_text(validated_model(parse_document(text, "own.yaml"), "own.yaml")) == text


@given(entries())
@settings(derandomize=True, max_examples=50, deadline=None)
def test_defaults_are_not_written(model: ModelSpec) -> None:
    written = parse_document(entry_text(model), "own.yaml")
    always = {"moe_router_topk"}
    assert not [f.name for f in fields(ModelSpec) if f.name in written.keys() - always and written[f.name] == f.default]


@given(st.lists(st.integers(0, 1), min_size=1, max_size=120))
@settings(derandomize=True, max_examples=300, deadline=None)
def test_a_pattern_is_read_as_it_was_written(pattern: list[int]) -> None:
    text = pattern_text(pattern)
    assert list(parse_pattern(text) if isinstance(text, str) else text) == pattern  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("([0]*3+[1]*58)", (0,) * 3 + (1,) * 58),
        ("[0,1]*24", (0, 1) * 24),
        ("([1]*3+[0]*1)*2", (1, 1, 1, 0) * 2),
        (" ( [ 0 ] * 1 + [ 1 ] * 2 ) ", (0, 1, 1)),
        ("[1]", (1,)),
        ("4", 4),
    ],
)
def test_megatrons_patterns(text: str, layers: tuple[int, ...] | int) -> None:
    assert parse_pattern(text) == layers


@pytest.mark.parametrize(
    "text", ["", "[", "[2]*3", "([0]*3", "[0]*3)", "[0]*-1", "[0]+", "0,1", "[0]**2", "(" * 40, "[1]*100000"]
)
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(PatternError):
        parse_pattern(text)
