"""``meshwright zoo``: a layout for every model, cluster, sequence length and objective of a file."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from cli import solver_package
from cli.output import deliver, ensure_writable, writer
from cli.streams import remark
from constraints.errors import RequestError
from constraints.problem import Origin

if TYPE_CHECKING:
    from solver.request import Request
    from solver.zoo.guard import Limits
    from solver.zoo.jobs import Jobs
    from solver.zoo.outcome import Totals

__all__ = ["command"]

LARGEST = {"time_limit": 86_400.0, "hang_after": 864_000.0, "memory": 1_000_000.0}
MOST_PROCESSES = 1024


@click.command("zoo")
@click.argument("file", metavar="ZOO.yaml", type=click.Path())
@click.option("--out", metavar="DIR", help="The folder for the results; it is made if there is none.")
@click.option("--jobs", type=int, metavar="N", help="Processes on this machine (default: one for each of its cores).")
@click.option("--ray", metavar="ADDRESS", help="Run on a Ray cluster instead: auto, local or an address.")
@click.option("--resume", is_flag=True, help="Go on with what DIR holds: nothing that is finished is repeated.")
@click.option("--dry-run", is_flag=True, help="List the jobs, one a line, and do nothing.")
@click.option(
    "--time-limit",
    type=float,
    metavar="SECONDS",
    help="Search of one job, counted as work and not by the clock, so that every machine decides alike (default 60).",
)
@click.option(
    "--hang-after", type=float, metavar="SECONDS", default=900.0, help="Stop a job that takes this long (default 900)."
)
@click.option(
    "--memory", type=float, metavar="GIB", default=4.0, help="Memory that one job may allocate, in GiB (default 4)."
)
@click.option("--format", "format_", type=click.Choice(("text", "json")), default="text", show_default=True)
def command(
    file: str,
    out: str | None,
    jobs: int | None,
    ray: str | None,
    resume: bool,
    dry_run: bool,
    time_limit: float | None,
    hang_after: float,
    memory: float,
    format_: str,
) -> int:
    """Find a layout, or the reason why there is none, for every job that ZOO.yaml describes.

    \b
    meshwright zoo examples/zoo/catalog.yaml --out layouts
    meshwright zoo examples/zoo/catalog.yaml --out layouts --resume --jobs 8

    DIR gets a folder for each job (the layout in every format, or the explanation and its certificate), manifest.jsonl and
    summary.csv. It can be stopped at any moment, and goes on with --resume. Exit 0: every job is decided; 3: some are not.
    """
    from solver.zoo.file import read_zoo
    from solver.zoo.jobs import Jobs

    if jobs is not None and ray is not None:
        raise click.UsageError("--jobs is for this machine, --ray for a cluster: give one or the other.")
    if jobs is not None and not 1 <= jobs <= MOST_PROCESSES:
        raise _wrong("jobs", jobs, f"must be from 1 to {MOST_PROCESSES}")
    ensure_writable(None)
    zoo = read_zoo(file)
    if time_limit is not None:
        zoo = replace(zoo, request=_with_time_limit(zoo.request, time_limit))
    limits = _limits(zoo.request.time_limit, hang_after, memory)
    listed = Jobs(zoo)
    if dry_run:
        return _list(listed)
    if out is None:
        raise click.UsageError("--out DIR is missing: where the results go.")
    solver_package.ensure_installed()
    totals = _run(listed, out, resume, _pool(jobs, ray, limits), limits)
    _tell(totals, out, format_)
    return totals.exit_code


def _with_time_limit(request: Request, seconds: float) -> Request:
    origin = Origin("flag", "--time-limit")
    return replace(request, time_limit=seconds, origins={**request.origins, "time_limit": origin})


def _limits(time_limit: float, hang_after: float, memory: float) -> Limits:
    from solver.zoo.guard import Limits

    given = {"time_limit": time_limit, "hang_after": hang_after, "memory": memory}
    for name, value in given.items():
        if not 0 < value <= LARGEST[name]:
            raise _wrong(name.replace("_", "-"), value, f"must be a number above 0, at most {LARGEST[name]:g}")
    return Limits(work=time_limit, seconds=hang_after, memory_gib=memory)


def _list(jobs: Jobs) -> int:
    """Names as they are made: of a hundred thousand no more than one is held."""
    with writer(None) as write:
        for job in jobs:
            write(job.name + "\n")
    remark(f"{len(jobs):,} jobs")
    return 0


def _run(jobs: Jobs, out: str, resume: bool, pool: Any, limits: Limits) -> Totals:
    from cli.zoo.progress import progress
    from cli.zoo.work import solve_and_emit
    from solver.zoo.run import run_jobs
    from solver.zoo.store import Store, maker

    with pool() as running:  # first, for a cluster that cannot be reached must not leave a folder behind
        store = Store(out, resume=resume, maker=maker(limits))
        try:
            with progress() as watcher:
                return run_jobs(jobs, store, running, solve_and_emit, limits, watcher)
        except BaseException as error:
            running.shutdown(cancel_futures=True)
            if isinstance(error, KeyboardInterrupt):
                remark(f"stopped: {len(store.manifest)} of {len(jobs)} jobs are finished; --resume goes on")
            raise
        finally:
            store.close()


def _pool(jobs: int | None, ray: str | None, limits: Limits) -> Any:
    """What makes the pool."""
    if ray is not None:
        from solver.zoo.ray_pool import RayPool, ensure_ray

        ensure_ray()
        return lambda: RayPool(ray, limits)
    from solver.zoo.pool import LocalPool

    return lambda: LocalPool(jobs or _cores(), limits)


def _cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _tell(totals: Totals, out: str, format_: str) -> None:
    if format_ == "json":
        import json

        deliver(json.dumps(totals.to_mapping(), indent=1))
        return
    from cli.text.zoo import zoo_text

    deliver(zoo_text(totals, out))


def _wrong(name: str, value: object, message: str) -> RequestError:
    return RequestError(name, value, Origin("flag", f"--{name}"), message)
