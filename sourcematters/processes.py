"""Work spread over processes: a plain loop for one worker, a pool for more, the same results for both."""

import contextlib
import io
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from typing import Any, TypeVar

import psutil
from tqdm.auto import tqdm as widget_bar
from tqdm.std import tqdm as text_bar

from sourcematters.errors import StudyError

Task = TypeVar("Task")
Result = TypeVar("Result")

LINE, LOOKS = 1024, 0.5  # bytes in which a worker tells of its bar; s after which its parent looks again
CRASHES = {"SIGSEGV", "SIGILL", "SIGBUS", "SIGFPE", "SIGABRT"}


def progress(iterable: Iterable[Any] | None = None, **options: Any) -> text_bar:
    """A tqdm bar: a widget in JupyterLab, plain text on the terminal of a headless run.

    That of a worker stands in its parent's notebook, which alone can show widgets.
    """
    here = text_bar if os.environ.get("SOURCEMATTERS_HEADLESS") else widget_bar
    bar = here if _line is None else _Told
    return bar(iterable, **{"leave": False, "mininterval": 1.0, **options})


_line: memoryview | None = None  # of the board that a worker shares with its parent


class _Told(text_bar):
    """A worker's bar: told to its parent, the last state in place of the one before, so nobody waits for anybody."""

    disable: bool

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "file": io.StringIO()})

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        about = {"desc": self.desc[:60], "unit": self.unit[:20], "total": self.total}
        _tell({**about, "n": self.n, "postfix": (self.postfix or "")[:120]})

    def close(self) -> None:
        shown = not self.disable
        super().close()
        if shown:
            _tell({})


def _tell(state: dict[str, Any]) -> None:
    if _line is not None:
        _line[:] = json.dumps(state, ensure_ascii=False).encode()[:LINE].ljust(LINE)


class _Board:
    """What workers tell of their bars, a line each, and those bars."""

    def __init__(self, context: Any, workers: int) -> None:
        self.lines, self.taken = context.RawArray("c", workers * LINE), context.Value("i", 0)
        self._bars: dict[int, tuple[dict[str, Any], text_bar]] = {}

    def show(self) -> None:
        """Draw the bars as they are now."""
        for place in range(len(self.lines) // LINE):
            state: dict[str, Any] = {}
            with contextlib.suppress(ValueError):  # it is being written: the next look will find it whole
                state = json.loads(bytes(self.lines[place * LINE : (place + 1) * LINE]).rstrip(b"\0 ") or b"{}")
            about: dict[str, Any] = {name: state[name] for name in ("desc", "unit", "total") if name in state}
            if place in self._bars and self._bars[place][0] != about:
                self._end(place)
            if state:
                if place not in self._bars:
                    self._bars[place] = about, progress(initial=state["n"], **about)
                bar = self._bars[place][1]
                bar.n = state["n"]
                bar.set_postfix_str(state["postfix"])

    def close(self) -> None:
        """Take all bars away."""
        for place in list(self._bars):
            self._end(place)

    def _end(self, place: int) -> None:
        _, bar = self._bars.pop(place)
        bar.total = bar.n  # a widget that is not full would stay, in red: its last steps were not looked at
        bar.close()


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
    board, headless = _Board(spawn, workers), bool(os.environ.get("SOURCEMATTERS_HEADLESS"))
    executor = ProcessPoolExecutor(workers, spawn, _begin, (os.getpid(), board.lines, board.taken))
    started: set[Any] = set()
    try:
        with _deaf_to_interrupts():
            futures = {executor.submit(function, task): task for task in tasks}
            executor.submit(os.getpid)  # the pool watches a process only from the next submission on
        started = set(multiprocessing.active_children()) - others
        running = set(futures)
        while running:
            done, running = wait(running, timeout=None if headless else LOOKS, return_when=FIRST_COMPLETED)
            if not headless:
                board.show()
            for future in done:
                yield futures[future], future.result()
        finished = True
    except BrokenProcessPool as error:
        _shut_down(executor)  # it ends the others by SIGTERM, and waits for all
        codes = {child.exitcode for child in started if child.exitcode}
        code = min(codes - {-signal.SIGTERM} or codes, default=None)
        raise StudyError(f"a worker process {ended_by(code, workers)}") from error
    finally:
        board.close()
        if not finished:
            for child in set(multiprocessing.active_children()) - others:
                child.kill()
        _shut_down(executor)


def _shut_down(executor: ProcessPoolExecutor) -> None:
    """End a pool and its thread, which, left to close a pipe while Python exits, makes that fail now and then."""
    queue = getattr(executor, "_call_queue", None)
    if sys.version_info < (3, 11, 5) and queue is not None:  # as later ones do: github.com/python/cpython/issues/94777
        queue._reader.close()
    executor.shutdown(cancel_futures=True)


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


def _begin(parent: int, lines: Any, taken: Any) -> None:
    global _line
    with taken:
        place, taken.value = taken.value, taken.value + 1
    _line = memoryview(lines).cast("B")[place * LINE : (place + 1) * LINE]

    # A kernel killed with -9 cannot tell its workers; without this they would compute on, unseen.
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
