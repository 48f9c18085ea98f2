"""The text of ``solve``: the layout on one line, both meshes, memory as bars, what was assumed, what to launch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.text.bars import memory_bars
from cli.text.page import Page
from cli.text.proof import best_words
from cli.text.time import neighbour_entries, seconds, time_entries
from constraints.problem import GIB, TARGET_TOKENS, Problem
from solver.answer import Answer

if TYPE_CHECKING:  # it imports ortools, and this module also serves ``check``
    from solver.report import Report

__all__ = ["answer_entries", "layout_entries", "one_line", "solved_text"]

LONGEST_SPLIT = 240
"""Characters of a layout string that are shown; the emitted formats hold the whole."""


def solved_text(report: Report, page: Page | None = None) -> str:
    """The whole report as text, on ``page`` or on one as wide as the terminal."""
    page = page or Page()
    if report.status in ("infeasible", "unknown"):
        _nothing(page, report)
        return page.text()
    _title(page, report)
    for rank, answer in enumerate(report.answers, start=1):
        if rank > 1:
            page.line()
        if len(report.answers) > 1:
            page.line(click.style(f"#{rank}", bold=True))
        answer_entries(page, answer, brief=rank > 1)
        if rank == 1:
            _advice(page, answer)
            neighbour_entries(page, report.neighbours)
    page.line()
    _assumed(page, report.asked, report.answers[0])
    if report.proof is not None:
        page.entry("proof", best_words(report.proof))
    _weighed(page, report)
    _next(page, report)
    return page.text()


def one_line(answer: Answer) -> str:
    """The layout on one line, in the words that ``check`` reads back."""
    x = answer.layout
    words = [f"tp={x.tp}", f"pp={x.pp}"]
    words += [f"vpp={x.vpp}"] if x.vpp else []
    words += [f"cp={x.cp}"] if x.cp > 1 else []
    words += [f"ep={x.ep}", f"etp={x.etp}"] if answer.problem.model.is_moe else []
    words += [f"dp={x.dp}", f"mbs={x.micro_batch_size}", f"gbs={x.global_batch_size}"]
    words += [f"sp={'true' if x.sequence_parallel else 'false'}"] if x.tp > 1 else []
    return " ".join(words)


def _title(page: Page, report: Report) -> None:
    problem = report.asked
    used = report.answers[0].layout.gpus
    idle = f" ({problem.gpus - used} of {problem.gpus} stay idle)" if used < problem.gpus else ""
    verdict = "optimal" if report.status == "optimal" else "feasible, not proved best: the time limit was reached"
    page.line(
        click.style(f"{problem.model.name} on {used} x {problem.gpu.name}", bold=True)
        + f"{idle}: {verdict} for {problem.objective}"
        + (f", {report.wall_seconds:.1f} s" if report.wall_seconds is not None else "")
    )
    page.line()


def _weighed(page: Page, report: Report) -> None:
    """Of which counts the one that is used is the best, where GPUs may stay idle."""
    counts, node = report.gpus_weighed, report.asked.gpus_per_node
    if len(counts) > 1:
        others = {count for count in range(counts[-1], counts[0]) if count % node == 0} - set(counts)
        fewer = f"{counts[1]} down to {counts[-1]} in whole nodes" if len(counts) > 2 else str(counts[1])
        but = f" but {', '.join(map(str, sorted(others)))}, undecided," if others else ""
        page.entry(
            "idle", f"fastest of {counts[0]}, the most that can be used, and of {fewer}{but}; fewer were not weighed"
        )


def layout_entries(page: Page, answer: Answer, fg: str | None = None) -> None:
    """Two entries: the degrees, in the colour ``fg``, and what is recomputed."""
    page.entry("layout", click.style(one_line(answer), fg=fg, bold=True))
    page.entry("recompute", str(answer.layout.recompute))


def answer_entries(page: Page, answer: Answer, *, brief: bool = False) -> None:
    """The layout with its batch, times, meshes, split and memory."""
    x = answer.layout
    layout_entries(page, answer, "green")
    page.entry(
        "batch",
        f"{_microbatches(x.num_microbatches)} of {x.micro_batch_size} on {_replicas(x.dp)} = {x.global_batch_size} "
        f"sequences, {x.global_batch_size * answer.problem.seq_length / 1e6:.2f} M tokens a step",
    )
    time_entries(page, answer, brief=brief)
    _communication(page, answer)
    if brief:
        page.entry("memory", f"up to {answer.memory.high_bytes / GIB:.1f} GiB on the fullest stage")
        return
    _mesh(page, answer)
    _pipeline(page, answer)
    memory_bars(page, answer)


def _microbatches(count: int) -> str:
    return f"{count} micro-batches" if count > 1 else "one micro-batch"


def _replicas(dp: int) -> str:
    return f"each of {dp} replicas" if dp > 1 else "one replica"


def _advice(page: Page, answer: Answer) -> None:
    for _, text in answer.advice:
        page.entry("advice", text, fg="yellow")


def _stages(pp: int) -> str:
    return f"{pp} stages" if pp > 1 else "one stage"


def _mesh(page: Page, answer: Answer) -> None:
    x = answer.layout
    page.entry("dense", f"tp {x.tp} x cp {x.cp} x dp {x.dp} = {x.stage_gpus} GPUs a stage, {_stages(x.pp)}")
    if answer.problem.model.is_moe:
        page.entry(
            "experts",
            f"etp {x.etp} x ep {x.ep} x edp {x.edp} = {x.etp * x.ep * x.edp}: the same GPUs, cut for experts "
            f"({answer.problem.model.experts // x.ep} experts a rank)",
        )


def _pipeline(page: Page, answer: Answer) -> None:
    if answer.layout.pp == 1:
        return
    text = answer.assignment.text()
    if len(text) > LONGEST_SPLIT:
        text = text[:LONGEST_SPLIT].rsplit("|", 1)[0] + "|..."
    form = {
        "even": "even split",
        "account": "embedding or loss counted as a layer",
        "first-last": "first and last stage counted apart",
        "layout": "explicit layout",
    }[answer.layout.split.form]
    page.entry("pipeline", f"{form}:")
    page.entry("", text.replace("|", "| "))


def _communication(page: Page, answer: Answer) -> None:
    parts = [f"{group} {seconds(ns)}" for group, ns in answer.communication_ns.items() if ns]
    total = seconds(sum(answer.communication_ns.values()))
    page.entry("traffic", f"{total} a step on the slowest rank, before any overlap ({', '.join(parts) or 'none'})")


def _assumed(page: Page, problem: Problem, answer: Answer) -> None:
    """Every value that the request did not give."""
    assumed = []
    for name, text in (
        ("seq_length", f"sequence length {problem.seq_length}"),
        ("precision", problem.precision),
        ("task", problem.task),
        ("objective", f"objective {problem.objective}"),
    ):
        if problem.origin(name).kind == "default":
            assumed.append(text)
    if problem.global_batch_size is None:
        assumed.append(f"batch chosen near {TARGET_TOKENS // (1 << 20)} Mi tokens")
    if problem.origin("nvlink_domain").kind == "catalog":
        assumed.append(f"{problem.gpus_per_node} GPUs a node, NVLink domain {problem.nvlink_domain}")
    network = problem.gpu.network_bytes_per_second / 1e9
    assumed.append(f"network {network:.0f} GB/s a GPU")
    if problem.model.mtp_layers:
        assumed.append(f"{problem.model.mtp_layers} MTP layer")
    page.entry("assumed", "; ".join(assumed))


def _next(page: Page, report: Report) -> None:
    from cli.emit.launch import launch_line

    answer = report.answers[0]
    page.raw("launch", launch_line(answer.problem, answer.layout))
    page.entry("", "(--format bridge writes the overrides with it, bridge-python and megatron-lm the same for those)")


def _nothing(page: Page, report: Report) -> None:
    problem = report.asked
    what = f"{problem.model.name} on {problem.gpus} x {problem.gpu.name}"
    if report.status == "unknown":
        page.line(click.style(f"undecided: no layout of {what} was found or excluded in the time given", fg="yellow"))
        page.entry("try", "a longer --time-limit, or pins that narrow the search")
        return
    from cli.text.refuted import refuted_text

    assert report.refutation is not None, "an infeasible report says why"
    refuted_text(page, report.refutation)
