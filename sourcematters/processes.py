"""Work spread over processes: a plain loop for one worker, a pool for more, the same results for both."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from typing import Any, TypeVar

import psutil
from tqdm.auto import tqdm as widget_bar
from tqdm.std import tqdm as text_bar

from sourcematters.errors import StudyError

Task = TypeVar("Task")
Result = TypeVar("Result")

CRASHES = {"SIGSEGV", "SIGILL", "SIGBUS", "SIGFPE", "SIGABRT"}


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
    StudyError, saying what is known of it, when a worker dies.
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
        with _deaf_to_interrupts():
            futures = {executor.submit(function, task): task for task in tasks}
            executor.submit(os.getpid)  # the pool watches a process only from the next submission on
        started = set(multiprocessing.active_children()) - others
        for future in as_completed(futures):
            yield futures[future], future.result()
        finished = True
    except BrokenProcessPool as error:
        executor.shutdown()  # it ends the others by SIGTERM, and waits for all
        codes = {child.exitcode for child in started if child.exitcode}
        code = min(codes - {-signal.SIGTERM} or codes, default=None)
        raise StudyError(f"a worker process {ended_by(code, workers)}") from error
    finally:
        executor.shutdown(wait=finished, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - others:
            child.kill()


def ended_by(exit_code: int | None, workers: int = 0) -> str:
    """How a process died, and what to do, after its name in a sentence; `exit_code` as `subprocess` gives it.

    >>> ended_by(-9)
    'was killed (SIGKILL), usually for want of memory. Finished work is kept: start again with fewer workers.'
    """
    name = signal.Signals(-exit_code).name if exit_code and exit_code < 0 else ""
    if name in CRASHES:
        return (
            f"crashed ({name}): compiled code failed, such as an operation of the network that is broken on this "
            "device. Finished work is kept: choose another backbone, device or precision."
        )
    if name == "SIGKILL" or not exit_code:
        number, by = f" (workers={workers})" if workers else "", f" ({name})" if name else ""
        start = "Finished work is kept: start again with fewer workers."
        return f"was killed{by}, usually for want of memory{number}. {start}"
    how = f"was ended by {name}" if name else f"ended by itself, with exit code {exit_code}"
    return f"{how}. Finished work is kept: start again."


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes started within it never hear Ctrl-C, of which each would print a traceback: their parent ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # starting it would let signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent(parent: int) -> None:
    # A kernel killed with -9 cannot tell its workers; without this they would compute on, unseen.
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
