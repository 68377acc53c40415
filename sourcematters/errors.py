"""What a user is meant to read instead of a traceback: an error, or that the work was stopped."""

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StudyError(Exception):
    """Something outside the code is wrong: a file, a table, a parameter; printed without a traceback.

    The message says what is wrong, where (file, row, column), and how to mend it. It is no ValueError: what turns a
    library's errors into sentences must not turn our sentences into others. Pydantic's validators raise ValueError.
    """

    def _render_traceback_(self) -> list[str]:
        """What IPython shows below a cell, in place of a traceback."""
        return [str(self)]


class Stopped(KeyboardInterrupt):
    """The user stopped a cell; the message says how to go on. To all else it is the interruption that it is."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


@contextmanager
def stoppable(how_far: Callable[[], str] = str) -> Iterator[None]:
    """Let an interruption of the block, or of the function it decorates, say one sentence, `how_far` at its end."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(": ".join(filter(None, ["stopped; run the cell again to go on", how_far()]))) from None


def printable() -> None:
    """Let no print fail for a letter that the terminal's encoding lacks: its number is printed."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
