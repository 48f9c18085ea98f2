"""NVIDIA's shipped recipes: what is not flagged is legal, what is flagged is not, and every exception is explained.

An exception is a recipe that really does not start, or does not train; each one was read in the source of Megatron, at
the commits that the rules cite. A recipe whose model the catalog does not have is not judged, and counted.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace

import pytest

from constraints.reading import read_layout
from constraints.spelling import spelling_of
from solver.verdict import Verdict, check
from tests.acceptance.judging import broken
from tests.acceptance.shipped import COLUMNS, FILE, NO_COLUMN, WORDS, Recipe, shipped_recipes

FLAGS = {"ep*etp does not divide GPUs/pp": "mesh.world-expert", "gbs not divisible by dp*mbs": "batch.gbs"}
"""What the file's own arithmetic flags, and the rule that says so."""

NO_SEQUENCE_PARALLELISM = (
    {"experts.moe-tp-needs-sp"},
    "experts and tp > 1, and the recipe turns sequence parallelism off: MoELayer.forward raises in training",
)
LAYOUT_OF_OTHER_CHUNKS = (
    {"pipeline.layout-count"},
    "a layout of 16 chunks on pp=4 is 4 virtual stages, the recipe says 2: TransformerConfig.__post_init__ asserts",
)
LAYERS_NOT_EVEN = (
    {"pipeline.pp-even"},
    "the layers do not come out over pp * vpp, and the vision-language recipe gives no split (the text recipe of that "
    "size counts embedding and loss as layers): get_num_layers_to_build asserts",
)
FORTY_FIVE_LAYERS_ON_EIGHT = (
    {"pipeline.pp-even"},
    "45 layers on pp=8 with pipeline_model_parallel_layout=None: get_num_layers_to_build asserts",
)
FORTY_FIVE_LAYERS_AND_WINDOWS = (
    {"pipeline.pp-even", "context.cp-swa"},
    "45 layers on pp=8, and windowed layers on cp=8 with the p2p exchange, which Transformer Engine refuses",
)
SPLIT_OF_TWO_STAGES_ON_ONE = (
    {"pipeline.pp-first-last", "pipeline.pp-first-last-sane"},
    "first=17 and last=23 stay from a recipe with pp=2, this one sets pp=1: TransformerConfig.__post_init__ raises",
)
NO_SUCH_FORMAT = (
    {"precision.gpu-format"},
    "mxfp8 or nvfp4 on an H100, if the recipe's name is taken at its word: FP8GlobalStateManager.autocast_enter asserts",
)

EXCEPTIONS = {
    "glm45_355b_sft_128gpu_h100_bf16_config": NO_SEQUENCE_PARALLELISM,
    "glm45_355b_peft_16gpu_h100_bf16_config": NO_SEQUENCE_PARALLELISM,
    "qwen3_vl_235b_a22b_sft_32gpu_h100_bf16_config": NO_SEQUENCE_PARALLELISM,
    "deepseek_v3_pretrain_256gpu_gb200_fp8mx_partial_cg_dev_config": LAYOUT_OF_OTHER_CHUNKS,
    "deepseek_v3_pretrain_256gpu_gb300_fp8mx_partial_cg_dev_config": LAYOUT_OF_OTHER_CHUNKS,
    "qwen3_vl_235b_a22b_pretrain_256gpu_h100_bf16_config": LAYERS_NOT_EVEN,
    "qwen3_vl_235b_a22b_pretrain_256gpu_h100_fp8cs_config": LAYERS_NOT_EVEN,
    "qwen3_vl_235b_a22b_pretrain_256gpu_h100_bf16_mock_config": LAYERS_NOT_EVEN,
    "qwen35_vl_397b_a17b_pretrain_64gpu_b200_bf16_config": LAYERS_NOT_EVEN,
    "qwen35_vl_397b_a17b_pretrain_64gpu_b200_fp8cs_config": LAYERS_NOT_EVEN,
    "qwen35_vl_397b_a17b_pretrain_64gpu_b200_fp8mx_config": LAYERS_NOT_EVEN,
    "qwen35_vl_397b_a17b_pretrain_256gpu_h100_bf16_config": LAYERS_NOT_EVEN,
    "qwen35_vl_397b_a17b_pretrain_256gpu_h100_fp8cs_config": LAYERS_NOT_EVEN,
    "qwen35_vl_397b_a17b_pretrain_512gpu_h100_bf16_mock_config": LAYERS_NOT_EVEN,
    "qwen35_vl_35b_a3b_pretrain_16gpu_h100_fp8cs_config": LAYERS_NOT_EVEN,
    "step35_196b_a11b_pretrain_512gpu_h100_bf16_config": FORTY_FIVE_LAYERS_AND_WINDOWS,
    "step37_sft_64gpu_h100_bf16_flickr8k_config": FORTY_FIVE_LAYERS_ON_EIGHT,
    "qwen35_vl_35b_a3b_sft_8gpu_gb200_bf16_functional_config": SPLIT_OF_TWO_STAGES_ON_ONE,
    "gpt_oss_20b_peft_1gpu_h100_fp8mx_config": NO_SUCH_FORMAT,
    "gpt_oss_20b_pretrain_16gpu_h100_fp8mx_config": NO_SUCH_FORMAT,
    "gpt_oss_20b_sft_8gpu_h100_fp8mx_config": NO_SUCH_FORMAT,
    "llama3_8b_pretrain_2gpu_h100_fp8mx_config": NO_SUCH_FORMAT,
    "llama3_8b_pretrain_2gpu_h100_nvfp4_config": NO_SUCH_FORMAT,
}


@pytest.fixture(scope="module")
def judged() -> list[tuple[Recipe, Verdict]]:
    """Every recipe whose model is in the catalog, with its verdict."""
    return [(recipe, recipe.verdict()) for recipe in shipped_recipes() if recipe.model is not None]


def _told(recipe: Recipe, verdict: Verdict) -> str:
    said = "; ".join(f"{found.rule.id}: {found.fact.text}" for found in verdict.violations)
    return f"{recipe.recipe} ({recipe.path}): {said or 'legal'}"


def test_recipes_that_nothing_flags_are_legal(
    judged: list[tuple[Recipe, Verdict]], capsys: pytest.CaptureFixture[str]
) -> None:
    plain = [(recipe, verdict) for recipe, verdict in judged if not recipe.shape_check]
    unexplained = [
        _told(recipe, verdict) for recipe, verdict in plain if not verdict.legal and recipe.recipe not in EXCEPTIONS
    ]
    _print_counts(judged, capsys)
    assert not unexplained, "\n".join(unexplained)


def _print_counts(judged: list[tuple[Recipe, Verdict]], capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counter(
        "flagged" if recipe.shape_check else "legal" if verdict.legal else "exception" for recipe, verdict in judged
    )
    unknown = Counter(recipe.hf_id or recipe.provider for recipe in shipped_recipes() if recipe.model is None)
    with capsys.disabled():
        print(
            f"\nrecipes: {len(shipped_recipes())}, of these {len(judged)} have a model in the catalog: "
            f"{counts['legal']} legal, {counts['exception']} illegal and explained, {counts['flagged']} flagged and "
            f"illegal. {sum(unknown.values())} recipes of {len(unknown)} models are not judged: "
            "the catalog lacks them, or they are no language models, or not of this Megatron."
        )


def test_most_recipes_are_judged(judged: list[tuple[Recipe, Verdict]]) -> None:
    assert len(judged) >= 300


def test_exceptions_break_just_what_is_said(judged: list[tuple[Recipe, Verdict]]) -> None:
    names = {recipe.recipe for recipe in shipped_recipes()}
    assert set(EXCEPTIONS) <= names
    for recipe, verdict in judged:
        if recipe.recipe in EXCEPTIONS:
            rules, reason = EXCEPTIONS[recipe.recipe]
            assert broken(verdict) == rules, f"{_told(recipe, verdict)}\nlisted as: {reason}"


def test_flagged_recipes_are_illegal_for_the_flagged_reason(judged: list[tuple[Recipe, Verdict]]) -> None:
    assert {recipe.shape_check for recipe in shipped_recipes()} - {""} == set(FLAGS)
    flagged = [(recipe, verdict) for recipe, verdict in judged if recipe.shape_check]
    assert flagged
    for recipe, verdict in flagged:
        assert broken(verdict) == {FLAGS[recipe.shape_check]}, _told(recipe, verdict)


def test_a_flagged_recipe_runs_on_the_world_it_was_made_for() -> None:
    """The expert mesh is all that is wrong: on the least world that the verdict names, each is legal."""
    for recipe in shipped_recipes():
        if FLAGS.get(recipe.shape_check) != "mesh.world-expert" or recipe.model is None:
            continue
        least = recipe.number("pp") * max(recipe.number("tp") * recipe.number("cp"), recipe.number("ep"))
        larger = replace(recipe.problem, gpus=least)
        verdict = check(larger, read_layout(recipe.words, larger).layout)
        assert verdict.legal, _told(recipe, verdict)


@pytest.mark.parametrize("key", NO_COLUMN)
def test_what_the_file_has_no_column_for_is_needed(key: tuple[str, str]) -> None:
    """GLM-5.2 sends micro-batches in groups of 16 through 13 stages; in groups of 13 they would not come out."""
    recipe = next(recipe for recipe in shipped_recipes() if recipe.key == key)
    if recipe.model is None:
        pytest.skip("the catalog has no such model")
    problem = recipe.problem
    assert check(problem, read_layout(recipe.words, problem).layout).legal
    without = {word: value for word, value in recipe.words.items() if word not in NO_COLUMN[key]}
    assert broken(check(problem, read_layout(without, problem).layout)) == {"pipeline.vpp-microbatches"}


def test_every_column_is_read() -> None:
    with FILE.open(newline="", encoding="utf-8") as lines:
        columns = set(next(csv.reader(lines)))
    assert columns == COLUMNS
    assert all(spelling_of(word) is not None for word in WORDS.values())


def test_bridge_overrides_mean_the_same(judged: list[tuple[Recipe, Verdict]]) -> None:
    """The same recipe as pasted overrides, ``model.tensor_model_parallel_size=8 ...``, is the same layout."""
    for recipe, verdict in judged:
        overrides = {}
        for word, value in recipe.words.items():
            spelling = spelling_of(word)
            assert spelling is not None
            text = "null" if value is None else ",".join(value) if isinstance(value, list) else str(value)
            overrides[spelling.path if spelling.section else word] = text
        assert read_layout(overrides, verdict.problem).layout == verdict.layout, recipe.recipe


def test_own_lengths_that_differ_are_refused_without_the_runner(judged: list[tuple[Recipe, Verdict]]) -> None:
    """``run_recipe.py`` sets the model's sequence length to the dataset's; ``ConfigContainer.validate`` alone asserts."""
    differing = [recipe for recipe, _ in judged if recipe.seq_length and recipe.seq_length != recipe.dataset_seq_length]
    assert differing
    for recipe in differing:
        problem = replace(recipe.problem, seq_length=recipe.number("seq_length"))
        assert "sequence.seq-dataset" in broken(check(problem, recipe.reading(problem).layout)), recipe.recipe
