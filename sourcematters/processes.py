"""Work spread over processes: a plain loop for one worker, a pool for more, the same results for both."""

import multiprocessing
import os
import signal
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
    yield from _spread(function, waiting, min(workers, len(waiting)))


def apart(function: Callable[[Task], Result], task: Task) -> Result:
    """function(task), computed in a process of its own. Raises what the function raises, StudyError when it crashes."""
    return next(result for _, result in _spread(function, [task], 1))


def _spread(function: Callable[[Task], Result], tasks: Iterable[Task], workers: int) -> Iterator[tuple[Task, Result]]:
    others, finished = set(multiprocessing.active_children()), False
    spawn = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, spawn, _end_with_parent, (os.getpid(),))
    started: set[Any] = set()
    try:
        futures = {executor.submit(function, task): task for task in tasks}
        started = set(multiprocessing.active_children()) - others
        for future in as_completed(futures):
            yield futures[future], future.result()
        finished = True
    except BrokenProcessPool as error:
        executor.shutdown(wait=True, cancel_futures=True)
        raise StudyError(_death([child.exitcode or 0 for child in started], workers)) from error
    finally:
        executor.shutdown(wait=finished, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - others:
            child.kill()


def _death(exitcodes: Iterable[int], workers: int) -> str:
    """Why a pool broke: the first worker died by itself, the others were then terminated."""
    signals = {signal.Signals(-code).name for code in exitcodes if code < 0} - {"SIGTERM"}
    if crashes := sorted(signals - {"SIGKILL"}):
        return (
            f"a worker process crashed ({', '.join(crashes)}): a fault in a library, on this kind of machine, and none "
            "of memory. Finished work is kept; another backbone, size or device may not meet it."
        )
    return (
        f"a worker process was killed, usually for want of memory (workers={workers}). "
        "Finished work is kept: start again with fewer workers."
    )


def _end_with_parent(parent: int) -> None:
    # A kernel killed with -9 cannot tell its workers; without this they would compute on, unseen.
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
