"""Switches and choices that came with a later generation of Megatron than the one that is asked for."""

from __future__ import annotations

from constraints.generations import before
from constraints.layout import Layout, Recompute, Settings
from constraints.problem import Problem
from constraints.rule import Builder, Noticed, Rule, bridge

__all__ = ["RULES"]

SWITCHES = {"tensor_parallel_num_weight_shards": "0.19", "use_megatron_fsdp_v2": "0.20"}
"""Switch to the first generation that has it."""

MODEL_FIELDS = {"enable_mhc_connections": "0.20"}
CHOICES = {("cuda_graph_impl", "full_iteration"): "0.19"}
MODULES = {"gdn_norm_out": "0.19"}
"""Modules of recompute_modules."""


class KnownWords(Rule):
    """Every switch, choice and module that the layout names exists in the chosen generation of Megatron."""

    id = "generation.known-words"
    noticed = Noticed.CONFIG
    source = bridge("training/utils/omegaconf_utils.py", "parse_hydra_overrides")
    scope = ("recompute",)
    reads = (
        "megatron",
        "tensor_parallel_num_weight_shards",
        "use_megatron_fsdp_v2",
        "enable_mhc_connections",
        "cuda_graph_impl",
    )
    until = "0.20"
    fix = "the word that this generation has for it, or a newer --megatron"
    example = "--megatron 0.16 with tensor_parallel_num_weight_shards=4"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return self._fault(problem, layout.settings, layout.recompute) is None

    def _fault(self, problem: Problem, settings: Settings, recompute: Recompute) -> str | None:
        said = [(name, since) for name, since in SWITCHES.items() if name in settings.changed()]
        said += [(name, since) for name, since in MODEL_FIELDS.items() if getattr(problem.model, name)]
        said += [
            (f"{name}={word}", since) for (name, word), since in CHOICES.items() if getattr(settings, name) == word
        ]
        said += [(f"recompute_modules={name}", since) for name, since in MODULES.items() if recompute.drops(name)]
        return next((f"{word} came with {since}" for word, since in said if before(problem.megatron, since)), None)

    def post(self, model: Builder, problem: Problem) -> None:
        if self._fault(problem, problem.settings, Recompute()) is not None:
            model.forbid()
        model.allow_recompute(lambda option: self._fault(problem, problem.settings, option) is None)

    def reason(self, problem: Problem, layout: Layout) -> str:
        return f"{self._fault(problem, layout.settings, layout.recompute)}, this is {problem.megatron}"


RULES = (KnownWords(),)
