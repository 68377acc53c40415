"""The executed notebooks of a results folder, as their own metadata tell."""

import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import nbformat

from sourcematters import checksums
from sourcematters.report.tables import PASSED_OVER


class Executed(NamedTuple):
    """A notebook that was executed: its number and title, whether it failed, how long it took, and when it ended."""

    file: str
    number: str
    title: str
    failed: bool
    seconds: float
    ended: str


def heading(cells: Iterable[Any]) -> tuple[str, str]:
    """Title and cost of a notebook: the first `# ...` line and the `Cost: ...` line of its first text cell.

    papermill's own markers of a failed notebook are passed over.
    """
    markdown = (cell for cell in cells if cell["cell_type"] == "markdown")
    texts = (c["source"] for c in markdown if "papermill-error-cell-tag" not in c["metadata"].get("tags", []))
    lines = "".join(next(texts, "")).splitlines()
    title = next((line.lstrip("# ").strip() for line in lines if line.startswith("# ")), "")
    cost = next((line.replace("*", "").strip() for line in lines if re.match(r"\W*cost\b", line, re.I)), "")
    return title, cost


def notebooks(folder: Path) -> list[Executed]:
    """Every notebook in `folder`/notebooks, in order; what is none is passed over, which is said."""
    found = []
    for path in sorted((folder / "notebooks").glob("[!.]*.ipynb")):
        try:
            found.append(_read(path))
        except Exception as error:  # whatever is in a file that somebody else left there
            checksums.tell(f"{path}: not readable as a notebook ({type(error).__name__})", PASSED_OVER)
    return found


def _read(path: Path) -> Executed:
    content = nbformat.read(path, as_version=4)
    about = content.metadata.get("papermill", {})
    ended = about.get("end_time")
    return Executed(
        file=path.name,
        number=path.stem.split("_")[0],
        title=heading(content.cells)[0] or path.stem,
        failed=bool(about.get("exception")),
        seconds=float(about.get("duration") or 0),
        ended=f"{datetime.fromisoformat(ended).astimezone():%Y-%m-%d %H:%M}" if ended else "",
    )
