"""A run of a zoo on a Ray cluster of three node processes: ``python -m tests.zoo.on_ray ZOO DIR`` prints what happened.

With ``--kill-a-node`` one of the nodes is killed while it works.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from constraints.problem import Problem
from solver.zoo.file import read_zoo
from solver.zoo.guard import Limits
from solver.zoo.jobs import Jobs
from solver.zoo.outcome import Outcome
from solver.zoo.ray_pool import RayPool
from solver.zoo.run import run_jobs
from solver.zoo.store import Store, maker
from tests.zoo import workloads
from tests.zoo.driver import Silent

CORES = 1
NODES = 3


class Counting(RayPool):
    """Knows how many tasks were outstanding at once."""

    most = now = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.now += 1
        self.most = max(self.most, self.now)
        future = super().submit(fn, *args, **kwargs)
        future.add_done_callback(self._done)
        return future

    def _done(self, _: Any) -> None:
        self.now -= 1


def noted(problem: Problem, limits: Limits) -> Outcome:
    """The quick work, slowly, with a note of the node that it ran on."""
    import ray

    folder = os.environ["MESHWRIGHT_TEST_NOTES"]
    with open(os.path.join(folder, ray.get_runtime_context().get_node_id()), "a", encoding="utf-8") as file:
        file.write(f"{problem.model.name} {problem.gpus}\n")
    time.sleep(0.7)
    return workloads.slow(problem, limits)


def main() -> None:
    from ray.cluster_utils import Cluster

    parser = argparse.ArgumentParser()
    parser.add_argument("zoo")
    parser.add_argument("out")
    parser.add_argument("--kill-a-node", action="store_true")
    parser.add_argument("--work", default="noted")
    parser.add_argument("--hang-after", type=float, default=900.0)
    given = parser.parse_args()
    notes = given.out + ".notes"
    os.makedirs(notes)
    os.environ["MESHWRIGHT_TEST_NOTES"] = notes  # node processes inherit it
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": CORES})
    nodes = [cluster.add_node(num_cpus=CORES) for _ in range(NODES - 1)]
    cluster.wait_for_nodes()
    limits = Limits(seconds=given.hang_after)
    pool = Counting(cluster.address, limits)
    before = alive(pool)
    if given.kill_a_node:
        threading.Thread(target=kill_when_at_work, args=(cluster, nodes[0], notes), daemon=True).start()
    work = noted if given.work == "noted" else getattr(workloads, given.work)
    store = Store(given.out, resume=True, maker=maker(Limits()))
    totals = run_jobs(Jobs(read_zoo(given.zoo)), store, pool, work, limits, Silent())
    store.close()
    if given.kill_a_node:
        wait_until(lambda: alive(pool) < before)
    told = {
        "code": totals.exit_code,
        "failures": [failure.reason for failure in totals.failures],
        "nodes_before": before,
        "nodes_after": alive(pool),
        "nodes_used": len(os.listdir(notes)),
        "most_outstanding": pool.most,
        "capacity": 2 * NODES * CORES,
    }
    pool.shutdown()
    cluster.shutdown()
    print(json.dumps(told))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)


def alive(pool: RayPool) -> int:
    return sum(node["Alive"] for node in pool.ray.nodes())


def kill_when_at_work(cluster: Any, node: Any, notes: str) -> None:
    """Kill a node's processes, without leave, once every node has begun a second job."""

    def all_at_work() -> bool:
        lines = [file.read_text(encoding="utf-8").count("\n") for file in Path(notes).iterdir()]
        return len(lines) == NODES and min(lines) >= 2

    wait_until(all_at_work)
    cluster.remove_node(node, allow_graceful=False)


if __name__ == "__main__":
    main()
