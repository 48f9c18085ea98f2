"""What low precision asks of the GPU, and its GEMMs of widths and token counts.

Megatron accepts any width; Transformer Engine raises in the first GEMM. Hence advice that ``solve`` insists on. A
width that does not divide at all is another rule's business: these speak about its whole part.

Megatron Bridge also wants reuse_grad_buf_for_mxfp8_param_ag where mxfp8 parameters are gathered without FSDP. Its own
mxfp8 settings say so, and a layout seldom does: there is no rule.
"""

from __future__ import annotations

from constraints.capability import AMD, compute_capability
from constraints.experts import has_expert_layers
from constraints.layout import Layout
from constraints.problem import Problem
from constraints.rule import Builder, Noticed, Rule, SettingsRule, Stratum, mcore, transformer_engine
from models_catalog.schema import GpuSpec

__all__ = ["FORMAT_ON_GPU", "RULES", "has_format"]

FORMAT_ON_GPU = "precision.gpu-format"
"""The rule that asks whether the GPU has the number format."""

BLOCK = 32
"""Elements that share a scale in mxfp8; cuBLAS wants as many fp4 elements in a row."""


_FORMATS: dict[str, tuple[tuple[int, int], tuple[int, int] | None]] = {
    "fp8_cs": ((8, 9), None),
    "fp8_ds": ((8, 9), None),
    "fp8_sc": ((9, 0), None),
    "fp8_mx": ((10, 0), (12, 0)),
    "nvfp4": ((10, 0), None),
}
"""Precision to the first compute capability that Transformer Engine runs it on, and the first that it does not again."""

_AMD_FORMATS = {
    "fp8_cs": ("cdna3", "cdna4"),
    "fp8_ds": ("cdna3", "cdna4"),
    "fp8_mx": ("cdna4",),
    "nvfp4": ("cdna3", "cdna4"),
}
"""The same for AMD's fork (ROCm/TransformerEngine@030b792 ``transformer_engine/pytorch/quantization.py``)."""


def has_format(precision: str, gpu: GpuSpec) -> bool:
    """True if Transformer Engine runs ``precision`` on that GPU; an architecture that nobody here knows is not judged."""
    return _format_fault(precision, gpu) is None


def _format_fault(precision: str, gpu: GpuSpec) -> str | None:
    """What Transformer Engine wants instead of that GPU."""
    capability = compute_capability(gpu.architecture)
    if precision not in _FORMATS or capability is None:
        return None
    if gpu.architecture.lower().startswith(AMD):
        able = _AMD_FORMATS.get(precision, ())
        if gpu.architecture.lower() in able:
            return None
        return f"it runs on {' and '.join(able)}" if able else "AMD's Transformer Engine has no such GEMM"
    first, last = _FORMATS[precision]
    if capability < first:
        return f"it wants {first[0]}.{first[1]} or higher"
    return f"it does not run on {last[0]}.{last[1]} and higher" if last is not None and capability >= last else None


class FormatOnGpu(SettingsRule):
    """The GPU has the number format: fp8 from compute capability 8.9 on, in 128 x 128 blocks 9.0, mxfp8 and nvfp4 10.0.

    mxfp8 is not offered on 12.0 and higher. Transformer Engine asks the device where the first forward pass begins.
    """

    id = FORMAT_ON_GPU
    noticed = Noticed.STEP
    source = transformer_engine("quantization.py", "FP8GlobalStateManager.autocast_enter")
    reads = ("precision", "gpu")
    fix = "--precision bf16, or a GPU that has the format"
    example = "fp8_cs on an A100: compute capability 8.0"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return has_format(problem.precision, problem.gpu)

    def reason(self, problem: Problem, layout: Layout) -> str:
        gpu = problem.gpu
        major, minor = compute_capability(gpu.architecture) or (0, 0)
        what = gpu.architecture if gpu.architecture.lower().startswith(AMD) else f"compute capability {major}.{minor}"
        return f"{problem.precision} on {gpu.name}, {what}: {_format_fault(problem.precision, gpu)}"


def _width_unit(precision: str) -> int:
    return BLOCK if precision in ("fp8_mx", "nvfp4") else 16


def _token_unit(precision: str) -> int:
    return BLOCK if precision in ("fp8_mx", "nvfp4") else 8


class AlignedWidths(Rule):
    """In fp8 every dense GEMM is a multiple of 16 wide on each rank: hidden size, heads * channels / tp, ffn / tp.

    mxfp8 and nvfp4 want 32.
    """

    id = "precision.fp8-widths"
    stratum = Stratum.ADVICE
    noticed = Noticed.STEP
    source = transformer_engine("utils.py", "assert_dim_for_fp8_exec")
    scope = ("tp",)
    reads = ("precision", "hidden_size", "ffn_hidden_size", "num_attention_heads")
    fix = "a smaller tp, bf16, or --relax precision.fp8-widths"
    example = "ffn_hidden_size 14336 with fp8_cs and tp=1024: 14 mod 16 = 14"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return self._fault(problem, layout.tp) is None

    def _fault(self, problem: Problem, tp: int) -> str | None:
        if not problem.uses_fp8:
            return None
        unit, precision, hidden = _width_unit(problem.precision), problem.precision, problem.model.hidden_size
        if hidden % unit:
            return f"hidden_size {hidden} in {precision}: {hidden} mod {unit} = {hidden % unit}"
        for name, width in _split_widths(problem):
            if width // tp % unit:
                return f"{name} {width} / tp={tp} in {precision}: {width // tp} mod {unit} = {width // tp % unit}"
        return None

    def post(self, model: Builder, problem: Problem) -> None:
        if problem.uses_fp8:
            model.allow("tp", lambda tp: self._fault(problem, tp) is None)

    def reason(self, problem: Problem, layout: Layout) -> str:
        return self._fault(problem, layout.tp) or ""


def _split_widths(problem: Problem) -> list[tuple[str, int]]:
    """Widths that tensor parallelism cuts, with their names."""
    model, pattern, widths = problem.model, problem.model.hybrid_override_pattern, []
    if pattern is None or set(pattern) & set("*D+"):
        channels = (model.v_head_dim or 128) if model.multi_latent_attention else model.head_dim
        widths.append(("attention width", model.num_attention_heads * channels))
    if ("-" in pattern) if pattern is not None else model.has_dense_feedforward:
        widths.append(("ffn_hidden_size", model.ffn))
    if has_expert_layers(model) and model.moe_shared_expert_intermediate_size:
        widths.append(("moe_shared_expert_intermediate_size", model.moe_shared_expert_intermediate_size))
    return widths


class AlignedExperts(Rule):
    """In fp8 a routed expert is a multiple of 16 wide on each rank: moe_ffn_hidden_size / etp (mxfp8: 32)."""

    id = "precision.fp8-experts"
    stratum = Stratum.ADVICE
    noticed = Noticed.STEP
    source = transformer_engine("utils.py", "assert_dim_for_fp8_exec")
    scope = ("etp",)
    reads = ("precision", "moe_ffn_hidden_size")
    fix = "a smaller etp, bf16, or --relax precision.fp8-experts"
    example = "moe_ffn_hidden_size 768 with fp8_mx and etp=16: 48 mod 32 = 16"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        if not problem.uses_fp8 or not has_expert_layers(problem.model):
            return True
        return problem.model.expert_ffn // layout.etp % _width_unit(problem.precision) == 0

    def post(self, model: Builder, problem: Problem) -> None:
        if problem.uses_fp8 and has_expert_layers(problem.model):
            width, unit = problem.model.expert_ffn, _width_unit(problem.precision)
            model.allow("etp", lambda etp: width // etp % unit == 0)

    def reason(self, problem: Problem, layout: Layout) -> str:
        width, unit, etp = problem.model.expert_ffn, _width_unit(problem.precision), layout.etp
        return (
            f"moe_ffn_hidden_size {width} / etp={etp} in {problem.precision}: {width // etp} mod {unit} = "
            f"{width // etp % unit}"
        )


class AlignedTokens(Rule):
    """In fp8 each rank's tokens per micro-batch come in eights: mbs * seq / (cp * sequence shards) mod 8 = 0.

    mxfp8 and nvfp4 want 32. Tokens of routed experts are padded and need nothing.
    """

    id = "precision.fp8-tokens"
    stratum = Stratum.ADVICE
    noticed = Noticed.STEP
    source = transformer_engine("utils.py", "assert_dim_for_fp8_exec")
    scope = ("micro_batch_size", "cp", "tp", "sequence_parallel")
    reads = ("precision", "seq_length")
    fix = "a sequence that is a multiple of 8*cp*tp, an even micro-batch, or --relax precision.fp8-tokens"
    example = "fp8_cs at sequence length 8191: 8191 mod 8 = 7"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return not problem.uses_fp8 or self._tokens(problem, layout) % _token_unit(problem.precision) == 0

    def _tokens(self, problem: Problem, layout: Layout) -> int:
        return layout.micro_batch_size * problem.seq_length // (layout.cp * layout.sequence_shards)

    def post(self, model: Builder, problem: Problem) -> None:
        if problem.uses_fp8:
            a, x = model.arithmetic, model.x
            tokens = a.floor_div(x.micro_batch_size * problem.seq_length, a.mul(x.cp, x.sequence_shards))
            model.divides(_token_unit(problem.precision), tokens)

    def reason(self, problem: Problem, layout: Layout) -> str:
        tokens, unit = self._tokens(problem, layout), _token_unit(problem.precision)
        ranks = f"cp={layout.cp}" + (f" * tp={layout.tp}" if layout.sequence_parallel else "")
        return (
            f"micro-batch {layout.micro_batch_size} * {problem.seq_length} tokens over {ranks} in {problem.precision}: "
            f"{tokens} mod {unit} = {tokens % unit}"
        )


class ParametersInFp8(SettingsRule):
    """Parameters are kept and gathered in fp8 only where GEMMs run in fp8."""

    id = "precision.fp8-param"
    noticed = Noticed.CONFIG
    source = mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    reads = ("fp8_param_gather", "precision")
    fix = "fp8_param_gather=false outside fp8"
    example = "fp8_param_gather=True in bf16"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return not layout.settings.fp8_param_gather or problem.precision.startswith("fp8")

    def reason(self, problem: Problem, layout: Layout) -> str:
        return f"fp8_param_gather=True in {problem.precision}: set fp8_param_gather=false"


RULES = (FormatOnGpu(), AlignedWidths(), AlignedExperts(), AlignedTokens(), ParametersInFp8())
