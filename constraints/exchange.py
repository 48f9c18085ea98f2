"""The exchange of keys and values, or of heads, by which attention sees the sequence that cp ranks share."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from constraints.context import ContextRule
from constraints.layout import Layout, Settings
from constraints.problem import Problem
from constraints.rule import Builder, Citation, Noticed, Rule, bridge, mcore, older_mcore, transformer_engine
from models_catalog.schema import ModelSpec

__all__ = ["RULES"]

EXCHANGES = ("p2p", "all_gather", "a2a", "a2a+p2p")
TE_CONTEXT = "attention/dot_product_attention/context_parallel.py"


def _exchanges(settings: Settings) -> tuple[str, ...]:
    """The exchanges that are named, one for all layers or one a layer; unset means p2p."""
    given = settings.cp_comm_type
    return given if isinstance(given, tuple) else (given or "p2p",)


def _attention_layers(model: ModelSpec) -> Iterator[int]:
    """Indices of the layers whose attention takes part; Mamba and gated delta net have exchanges of their own."""
    if model.hybrid_override_pattern is not None:
        main = model.hybrid_override_pattern.split("/")[0].replace("|", "")
        return (i for i, symbol in enumerate(main) if symbol in "*D+")
    return (i for i, kind in enumerate(model.layer_kinds) if kind.mixer == "attention")


def _of_layer(exchanges: tuple[str, ...], layer: int) -> str:
    return exchanges[layer] if layer < len(exchanges) else exchanges[-1]


def _degenerate(exchange: str, sizes: tuple[int, ...] | None) -> str:
    """What Transformer Engine makes of a2a+p2p when one of its two levels has a single rank."""
    if exchange != "a2a+p2p" or sizes is None or len(sizes) != 2:
        return exchange
    return "p2p" if sizes[0] == 1 else "a2a" if sizes[1] == 1 else exchange


def _is_allgather(exchange: str) -> bool:
    return exchange.replace("_", "").lower() == "allgather"


def _is_sparse(model: ModelSpec) -> bool:
    return model.experimental_attention_variant == "dsa" or "D" in (model.hybrid_override_pattern or "")


class KnownExchange(ContextRule):
    """cp_comm_type is p2p, all_gather, a2a or a2a+p2p, for all layers or in a list with one entry a layer.

    The length is checked when the configuration is validated, the spelling in the first step. ``allgather`` without
    the underscore is known to sparse attention (DSA) only.
    """

    id = "context.cp-comm-type"
    noticed = Noticed.CONFIG
    source = bridge("training/config.py", "ConfigContainer._validate_cp_comm_type")
    reads = ("cp_comm_type", "num_layers")
    fix = "one of the four words, or a list with one of them for each layer"
    example = "cp_comm_type=[p2p, p2p, p2p] for 32 layers"

    def fault(self, problem: Problem, settings: Settings, cp: int) -> str | None:
        if cp == 1:
            return None
        given, layers = settings.cp_comm_type, problem.model.num_layers
        if isinstance(given, tuple) and len(given) != layers:
            return f"cp_comm_type has {len(given)} entries, the model {layers} layers (cp={cp})"
        for exchange in _exchanges(settings):
            if exchange not in EXCHANGES and not (_is_sparse(problem.model) and _is_allgather(exchange)):
                return f"cp_comm_type={exchange} with cp={cp} is none of {', '.join(EXCHANGES)}"
        return None


class OneExchange(ContextRule):
    """Under cp > 1 all layers have one cp_comm_type: of a list, Megatron reads for each layer the entry after its own."""

    id = "context.cp-comm-list"
    noticed = Noticed.BUILD
    source = older_mcore("transformer/transformer_layer.py", "TransformerLayer.__init__")
    reads = ("cp_comm_type",)
    until = "0.19"
    fix = "one cp_comm_type for all layers"
    example = "cp_comm_type=[p2p, all_gather, ...] with cp=2"

    def fault(self, problem: Problem, settings: Settings, cp: int) -> str | None:
        if cp == 1 or not isinstance(settings.cp_comm_type, tuple):
            return None
        return f"cp_comm_type is a list of {len(settings.cp_comm_type)} with cp={cp}: name one exchange for all layers"


class LatentExchange(ContextRule):
    """Under cp > 1 multi-latent attention, whose keys and values differ in width, exchanges by p2p or a2a+p2p.

    Transformer Engine 2.12, which goes with this generation, says so.
    """

    id = "context.cp-mla-gather"
    noticed = Noticed.STEP
    source = Citation(
        "NVIDIA/TransformerEngine", "2.12", f"transformer_engine/pytorch/{TE_CONTEXT}", "attn_forward_func_with_cp"
    )
    reads = ("cp_comm_type", "multi_latent_attention")
    until = "0.19"
    fix = "cp_comm_type=p2p"
    example = "deepseek-v3 with cp=2 and cp_comm_type=all_gather"

    def fault(self, problem: Problem, settings: Settings, cp: int) -> str | None:
        model = problem.model
        others = [exchange for exchange in _exchanges(settings) if exchange in ("all_gather", "a2a")]
        if cp == 1 or not model.multi_latent_attention or not others:
            return None
        keys, values = (model.qk_head_dim or 128) + (model.qk_pos_emb_head_dim or 64), model.v_head_dim or 128
        if keys == values:
            return None
        return f"keys {keys} and values {values} wide with cp={cp} and cp_comm_type={others[0]}: use p2p"


class ChannelsInEights(ContextRule):
    """Under cp > 1 with a2a or all_gather, attention heads are a multiple of 8 channels wide.

    Transformer Engine 2.12, which goes with this generation, says so.
    """

    id = "context.cp-channels"
    noticed = Noticed.STEP
    source = Citation(
        "NVIDIA/TransformerEngine",
        "2.12",
        f"transformer_engine/pytorch/{TE_CONTEXT}",
        "AttnFuncWithCPAndQKVOA2A.forward",
    )
    reads = ("cp_comm_type", "kv_channels", "hidden_size", "num_attention_heads")
    until = "0.19"
    fix = "cp_comm_type=p2p"
    example = "kv_channels=90 with cp=2 and cp_comm_type=a2a: 90 mod 8 = 2"

    def fault(self, problem: Problem, settings: Settings, cp: int) -> str | None:
        width, kinds = problem.model.head_dim, {"a2a", "all_gather"} & set(_exchanges(settings))
        if cp == 1 or problem.model.multi_latent_attention or not kinds or width % 8 == 0:
            return None
        return f"attention heads {width} channels wide with cp={cp} and {min(kinds)}: {width} mod 8 = {width % 8}"


class HeadsOverContext(Rule):
    """An all-to-all exchange deals whole heads to cp ranks: (heads/tp) mod cp = 0 and max(groups/tp, 1) mod cp = 0.

    Under a2a+p2p the first hierarchical size takes the place of cp. Multi-latent attention counts heads only.
    """

    id = "context.cp-a2a-heads"
    noticed = Noticed.STEP
    source = transformer_engine(TE_CONTEXT, "AttnFuncWithCPAndQKVOA2A.forward")
    scope = ("tp", "cp")
    reads = ("cp_comm_type", "num_attention_heads", "num_query_groups", "hierarchical_context_parallel_sizes")
    fix = "a smaller cp or tp, or cp_comm_type=p2p"
    example = "8 query groups with tp=2 cp=8 and cp_comm_type=a2a: 4 mod 8 = 4"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return layout.cp == 1 or self._fault(problem.model, layout) is None

    def _fault(self, model: ModelSpec, layout: Layout) -> str | None:
        direct, levels = _head_exchanges(model, layout.settings)
        for ranks, what in [(layout.cp, f"cp={layout.cp}")] * direct + [(n, f"an a2a level of {n}") for n in levels]:
            for name, count, floor in _head_counts(model):
                each = max(count // layout.tp, floor)
                if each % ranks:
                    return f"{count} {name} / tp={layout.tp} over {what}: {each} mod {ranks} = {each % ranks}"
        return None

    def post(self, model: Builder, problem: Problem) -> None:
        direct, levels = _head_exchanges(problem.model, problem.settings)
        a, x, when = model.arithmetic, model.x, model.above_one("cp")
        for ranks in [x.cp] * direct + list(levels):
            for _, count, floor in _head_counts(problem.model):
                model.divides(ranks, a.maximum(a.floor_div(count, x.tp), floor), when=when)

    def reason(self, problem: Problem, layout: Layout) -> str:
        return f"cp_comm_type={layout.settings.cp_comm_type}: {self._fault(problem.model, layout)}"


def _head_exchanges(model: ModelSpec, settings: Settings) -> tuple[bool, tuple[int, ...]]:
    """Whether some attention layer deals heads to all cp ranks, and to how many in a first level others do."""
    exchanges, sizes = _exchanges(settings), settings.hierarchical_context_parallel_sizes
    if not any(exchange.startswith("a2a") for exchange in exchanges):
        return False, ()
    used = {_of_layer(exchanges, layer) for layer in _attention_layers(model)}
    levelled = "a2a+p2p" in used and sizes is not None and len(sizes) == 2 and sizes[0] > 0
    return "a2a" in used, (sizes[0],) if levelled and sizes else ()


def _head_counts(model: ModelSpec) -> list[tuple[str, int, int]]:
    """Name, count, and least number on a rank of the heads that are dealt; scarce key/value heads are replicated."""
    heads = [("attention heads", model.num_attention_heads, 0)]
    return heads if model.multi_latent_attention else [*heads, ("query groups", model.query_groups, 1)]


class HierarchicalSizes(ContextRule):
    """a2a+p2p names two hierarchical_context_parallel_sizes, and sizes that are named multiply to cp."""

    id = "context.cp-hier"
    noticed = Noticed.CONFIG
    source = bridge("training/config.py", "ConfigContainer._validate_cp_comm_type")
    reads = ("cp_comm_type", "hierarchical_context_parallel_sizes")
    fix = "hierarchical_context_parallel_sizes of two numbers that multiply to cp"
    example = "cp_comm_type=a2a+p2p with cp=8 and no hierarchical_context_parallel_sizes"

    def fault(self, problem: Problem, settings: Settings, cp: int) -> str | None:
        sizes, both = settings.hierarchical_context_parallel_sizes, "a2a+p2p" in _exchanges(settings)
        if sizes is None:
            return f"cp_comm_type=a2a+p2p with cp={cp} needs hierarchical_context_parallel_sizes" if both else None
        if prod(sizes) != cp:
            return f"hierarchical_context_parallel_sizes {list(sizes)} multiply to {prod(sizes)}, not to cp={cp}"
        if both and cp > 1 and len(sizes) != 2:
            return f"hierarchical_context_parallel_sizes {list(sizes)} are {len(sizes)}: a2a+p2p has 2 levels (cp={cp})"
        return None


class WindowsAndSinks(ContextRule):
    """With cp > 1 a sliding window needs a2a or all_gather, and attention sinks (softmax_type not vanilla) a2a."""

    id = "context.cp-swa"
    noticed = Noticed.STEP
    source = transformer_engine(TE_CONTEXT, "attn_forward_func_with_cp")
    reads = ("cp_comm_type", "window_size", "softmax_type")
    fix = "cp_comm_type=a2a, or cp=1"
    example = "gpt-oss-20b with cp=2 and cp_comm_type=p2p"

    def fault(self, problem: Problem, settings: Settings, cp: int) -> str | None:
        model = problem.model
        if cp == 1 or (not model.window_size and model.softmax_type == "vanilla"):
            return None
        exchanges, sizes = _exchanges(settings), settings.hierarchical_context_parallel_sizes
        for layer in _attention_layers(model):
            exchange = _degenerate(_of_layer(exchanges, layer), sizes)
            if model.softmax_type != "vanilla" and exchange != "a2a":
                return f"softmax_type={model.softmax_type} with cp={cp} and {exchange}: set cp_comm_type=a2a"
            if _has_window(model, layer) and exchange not in ("a2a", "all_gather"):
                return f"a window of {model.window_size} tokens with cp={cp} and {exchange}: set cp_comm_type=a2a"
        return None


def _has_window(model: ModelSpec, layer: int) -> bool:
    """As ``megatron/core/transformer/utils.py::is_layer_window_attention``, which counts layers from 1."""
    frequency = model.window_attn_skip_freq
    if not model.window_size or model.window_size < 0:
        return False
    if isinstance(frequency, int):
        return frequency == 0 or (layer + 1) % frequency != 0
    return frequency is None or (layer < len(frequency) and bool(frequency[layer]))


class SparseAttention(ContextRule):
    """Sparse attention (DSA) has no linear biases and no fused rotary embedding, and under cp every layer gathers.

    Left unset, cp_comm_type is what Bridge's provider of such a model says: allgather.
    """

    id = "context.dsa"
    noticed = Noticed.CONFIG
    source = mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    reads = ("experimental_attention_variant", "cp_comm_type", "add_bias_linear", "apply_rope_fusion")
    fix = "cp_comm_type=all_gather, add_bias_linear=false, apply_rope_fusion=false"
    example = "glm-5.2 with cp=4 and cp_comm_type=p2p"

    def fault(self, problem: Problem, settings: Settings, cp: int) -> str | None:
        model = problem.model
        if not _is_sparse(model):
            return None
        for name in ("add_bias_linear", "apply_rope_fusion"):
            if getattr(model, name):
                return f"sparse attention (DSA) with {name}=True: set it to false"
        others = [exchange for exchange in _exchanges(settings) if not _is_allgather(exchange)]
        if cp > 1 and others and settings.cp_comm_type is not None:
            return f"sparse attention (DSA) with cp={cp} and {others[0]}: set cp_comm_type=allgather"
        return None


RULES = (
    KnownExchange(),
    OneExchange(),
    LatentExchange(),
    ChannelsInEights(),
    HeadsOverContext(),
    HierarchicalSizes(),
    WindowsAndSinks(),
    SparseAttention(),
)
