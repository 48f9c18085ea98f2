"""Many requests at once: a zoo file, its jobs, the processes that solve them and the folder that keeps the results.

::

    Zoo file --file--> Zoo --jobs--> Job, Job, ... --run--> pool (processes, or Ray) --> store (DIR)

The pool is an :class:`concurrent.futures.Executor`; nothing else knows where a job runs. What a job's folder holds is up to
the function that is given to :func:`solver.zoo.run.run_jobs` (the command's is :func:`cli.zoo.work.solve_and_emit`).
"""
