"""Work spread over processes: a plain loop for one worker, a pool for more, the same results for both."""

import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import psutil
from tqdm.auto import tqdm as widget_bar
from tqdm.std import tqdm as text_bar

from sourcematters.errors import StudyError

Task = TypeVar("Task")
Result = TypeVar("Result")


def progress(iterable: Iterable[Any] | None = None, **options: Any) -> text_bar:
    """A tqdm bar: a widget in JupyterLab, plain text on the terminal of a headless run."""
    bar = text_bar if os.environ.get("SOURCEMATTERS_HEADLESS") else widget_bar
    return bar(iterable, **{"leave": False, "mininterval": 1.0, **options})


def cores() -> int:
    """Number of CPU cores this process may use: what Slurm or a container grants, not what the machine has."""
    return len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count() or 1


def over_processes(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int, *, alone: float = 0.0
) -> Iterator[tuple[Task, Result]]:
    """Yield (task, function(task)) as they finish; with one worker in this process, in order.

    `workers` 0 means one for each core; for `alone` seconds this process works by itself. `function` must be importable
    and `tasks` picklable. When the caller stops early or is interrupted, the workers are ended at once. Raises
    StudyError when the system kills a worker.
    """
    workers, waiting, deadline = workers or cores(), deque(tasks), time.monotonic() + alone
    while waiting and (workers == 1 or len(waiting) == 1 or time.monotonic() < deadline):
        task = waiting.popleft()
        yield task, function(task)
    if not waiting:
        return
    others, finished = set(multiprocessing.active_children()), False
    spawn = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(min(workers, len(waiting)), spawn, _end_with_parent, (os.getpid(),))
    try:
        futures = {executor.submit(function, task): task for task in waiting}
        for future in as_completed(futures):
            yield futures[future], future.result()
        finished = True
    except BrokenProcessPool as error:
        raise StudyError(
            f"a worker process was killed, usually for want of memory (workers={workers}). "
            "Finished work is kept: start again with fewer workers."
        ) from error
    finally:
        executor.shutdown(wait=finished, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - others:
            child.kill()


def _end_with_parent(parent: int) -> None:
    # A kernel killed with -9 cannot tell its workers; without this they would compute on, unseen.
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
