"""The command that starts the job."""

from __future__ import annotations

from constraints.layout import Layout
from constraints.problem import Problem

__all__ = ["environment", "launch_line", "nodes"]

RECIPE = "YOUR_RECIPE"


def nodes(problem: Problem, layout: Layout) -> tuple[int, int]:
    """(nodes, processes on each). A last node that is only partly used cannot be said in one such line."""
    per_node = min(problem.gpus_per_node, layout.gpus)
    return -(-layout.gpus // per_node), per_node


def environment(problem: Problem, layout: Layout) -> dict[str, str]:
    """Environment variables that the layout needs.

    Before Blackwell, tensor and context parallelism overlap correctly only with one hardware queue
    (NVIDIA/Megatron-LM@d98e8a6 ``megatron/training/arguments.py::validate_args``).
    """
    old = problem.gpu.architecture in ("volta", "turing", "ampere", "ada", "hopper")
    if old and (layout.tp > 1 or layout.cp > 1) and not layout.settings.use_megatron_fsdp:
        return {"CUDA_DEVICE_MAX_CONNECTIONS": "1"}
    return {}


def launch_line(problem: Problem, layout: Layout) -> str:
    """The line to run on every node, up to where the overrides follow."""
    count, per_node = nodes(problem, layout)
    variables = "".join(f"{name}={value} " for name, value in environment(problem, layout).items())
    several = f"--nnodes={count} " if count > 1 else ""
    return (
        f"{variables}python -m torch.distributed.run {several}--nproc_per_node={per_node} "
        f"scripts/training/run_recipe.py --recipe {RECIPE}"
    )
