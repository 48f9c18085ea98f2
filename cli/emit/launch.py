"""The command that starts the job."""

from __future__ import annotations

from cli.emit.recipes import recipe_of
from constraints.capability import AMD, compute_capability
from constraints.layout import Layout
from constraints.problem import Problem

__all__ = ["launch_line", "launcher", "nodes", "partial_node_note"]

BLACKWELL = (10, 0)
"""The first compute capability that overlaps with several hardware queues."""


def nodes(problem: Problem, layout: Layout) -> tuple[int, int]:
    """(nodes, processes on each). A last node that is only partly used cannot be said in one such line."""
    per_node = min(problem.gpus_per_node, layout.gpus)
    return -(-layout.gpus // per_node), per_node


def environment(problem: Problem, layout: Layout) -> dict[str, str]:
    """Environment variables that the layout needs, and that its memory was judged with.

    Before Blackwell, tensor and context parallelism overlap correctly only with one hardware queue
    (NVIDIA/Megatron-LM@d98e8a6 ``megatron/training/arguments.py::validate_args``); Megatron FSDP wants more than one. The
    same function wants NCCL not to register the buffers of CUDA graphs that lie in expandable segments. AMD's Transformer
    Engine runs mxfp8 only where it is asked to (ROCm/TransformerEngine@030b792 ``pytorch/quantization.py``).
    """
    out: dict[str, str] = {}
    amd = problem.gpu.architecture.startswith(AMD)
    old = not amd and (compute_capability(problem.gpu.architecture) or BLACKWELL) < BLACKWELL
    fsdp = layout.settings.use_megatron_fsdp or layout.settings.use_megatron_fsdp_v2
    if old and (layout.tp > 1 or layout.cp > 1) and not fsdp:
        out["CUDA_DEVICE_MAX_CONNECTIONS"] = "1"
    out["PYTORCH_CUDA_ALLOC_CONF"] = f"expandable_segments:{problem.expandable_segments}"
    if problem.expandable_segments and layout.settings.cuda_graph_impl != "none":
        out["NCCL_GRAPH_REGISTER"] = "0"
    if problem.precision == "fp8_mx" and amd:
        out["NVTE_ROCM_ENABLE_MXFP8"] = "1"
    return out


def launcher(problem: Problem, layout: Layout) -> str:
    """``python -m torch.distributed.run`` with what every node passes to it; the shell knows its rank and the first node.

    Nodes get their ranks from ``NODE_RANK`` and not from a rendezvous: ranks decide which GPUs share a group.
    """
    count, per_node = nodes(problem, layout)
    variables = "".join(f"{name}={value} " for name, value in environment(problem, layout).items())
    several = f"--nnodes={count} --node_rank=$NODE_RANK --master_addr=$MASTER_ADDR " if count > 1 else ""
    return f"{variables}python -m torch.distributed.run {several}--nproc_per_node={per_node}"


def launch_line(problem: Problem, layout: Layout) -> str:
    """The line to run on every node, up to where the overrides follow."""
    recipe = recipe_of(problem.model.name, problem.task)
    return f"{launcher(problem, layout)} scripts/training/run_recipe.py --recipe {recipe}"


def partial_node_note(problem: Problem, layout: Layout) -> list[str]:
    """What to do differently on a last node that is only partly used; nothing if there is none."""
    count, per_node = nodes(problem, layout)
    rest = layout.gpus % per_node
    return [f"the last of {count} nodes runs {rest} processes: start it with --nproc_per_node={rest}"] if rest else []
