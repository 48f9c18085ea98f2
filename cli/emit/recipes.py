"""Which of Bridge's recipes is a catalog model's: what ``run_recipe.py --recipe`` takes.

Source: NVIDIA-NeMo/Megatron-Bridge@067f987 ``src/megatron/bridge/recipes`` (names exported there).
"""

from __future__ import annotations

__all__ = ["PLACEHOLDER", "recipe_of"]

PLACEHOLDER = "YOUR_RECIPE"

_STEMS = {
    "deepseek-v2": "deepseek_v2",
    "deepseek-v2-lite": "deepseek_v2_lite",
    "deepseek-v3": "deepseek_v3",
    "glm-4.5": "glm45_355b",
    "glm-4.5-air": "glm45_air_106b",
    "gpt-oss-20b": "gpt_oss_20b",
    "gpt-oss-120b": "gpt_oss_120b",
    "gpt3-175b": "gpt3_175b",
    "kimi-k2": "kimi_k2",
    "llama-2-7b": "llama2_7b",
    "llama-3-8b": "llama3_8b",
    "llama-3-70b": "llama3_70b",
    "llama-3.1-8b": "llama31_8b",
    "llama-3.1-70b": "llama31_70b",
    "llama-3.1-405b": "llama31_405b",
    "llama-3.2-1b": "llama32_1b",
    "llama-3.2-3b": "llama32_3b",
    "moonlight-16b-a3b": "moonlight_16b",
    "olmoe-1b-7b": "olmoe_7b",
    "qwen2-0.5b": "qwen2_500m",
    "qwen2-1.5b": "qwen2_1p5b",
    "qwen2-7b": "qwen2_7b",
    "qwen2-72b": "qwen2_72b",
    "qwen2.5-0.5b": "qwen25_500m",
    "qwen2.5-1.5b": "qwen25_1p5b",
    "qwen2.5-7b": "qwen25_7b",
    "qwen2.5-14b": "qwen25_14b",
    "qwen2.5-32b": "qwen25_32b",
    "qwen2.5-72b": "qwen25_72b",
    "qwen3-0.6b": "qwen3_600m",
    "qwen3-1.7b": "qwen3_1p7b",
    "qwen3-4b": "qwen3_4b",
    "qwen3-8b": "qwen3_8b",
    "qwen3-14b": "qwen3_14b",
    "qwen3-32b": "qwen3_32b",
    "qwen3-30b-a3b": "qwen3_30b_a3b",
    "qwen3-235b-a22b": "qwen3_235b_a22b",
    "qwen3-next-80b-a3b": "qwen3_next_80b_a3b",
}
_ONLY_PRETRAINING = {
    "deepseek_v2",
    "deepseek_v2_lite",
    "deepseek_v3",
    "gpt3_175b",
    "kimi_k2",
    "llama2_7b",
}
_TASKS = {"pretrain": "pretrain", "sft": "sft", "lora": "peft"}


def recipe_of(model: str, task: str) -> str:
    """The recipe function for a catalog model and a task; a placeholder where Bridge ships none.

    >>> recipe_of("llama-3.2-1b", "pretrain"), recipe_of("my-model", "pretrain")
    ('llama32_1b_pretrain_config', 'YOUR_RECIPE')
    """
    stem = _STEMS.get(model)
    if stem is None or (task != "pretrain" and stem in _ONLY_PRETRAINING):
        return PLACEHOLDER
    return f"{stem}_{_TASKS[task]}_config"
