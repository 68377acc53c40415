"""The index page of an executed study: what was run, with which settings, and its figures.

Everything on the page is read from the results folder, so it shows what is there, whichever calls made it.
"""

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2

from sourcematters import files


@dataclass(frozen=True)
class Executed:
    """An executed notebook, as its own metadata tell."""

    path: Path
    title: str
    failed: bool
    seconds: float
    ended: str

    @property
    def number(self) -> str:
        """The number at the start of its file name."""
        return self.path.stem.split("_")[0]


def heading(cells: Iterable[Any]) -> tuple[str, str]:
    """Title and cost of a notebook: the first `# ...` line and the `Cost: ...` line of its first text cell.

    papermill's own markers of a failed notebook are passed over.
    """
    texts = (c for c in cells if c["cell_type"] == "markdown" and not _is_marker(c))
    lines = "".join(next(texts, {"source": ""})["source"]).splitlines()
    title = next((line.lstrip("# ").strip() for line in lines if line.startswith("# ")), "")
    cost = next((line.replace("*", "").strip() for line in lines if re.match(r"\W*cost\b", line, re.I)), "")
    return title, cost


def _is_marker(cell: Any) -> bool:
    return "papermill-error-cell-tag" in cell["metadata"].get("tags", [])


def lasting(seconds: float) -> str:
    """A duration for people: 4.2 s, 3 min 05 s, 2 h 10 min."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _executed(path: Path) -> Executed:
    content = files.read_json(path)
    about = content["metadata"].get("papermill", {})
    ended = about.get("end_time")
    return Executed(
        path=path,
        title=heading(content["cells"])[0] or path.stem,
        failed=bool(about.get("exception")),
        seconds=about.get("duration") or 0.0,
        ended=f"{datetime.fromisoformat(ended).astimezone():%Y-%m-%d %H:%M}" if ended else "",
    )


def index(folder: str | Path) -> Path:
    """Write `folder`/index.html for the study executed in `folder`, and return its path.

    Shows `folder`/notebooks/*.ipynb (linking the .html beside each); `folder`/figures/*.png, each with links to the
    .pdf and .csv of the same name; and `folder`/tables/settings.csv. What figures must say of their data and sources
    (column `caution` of `folder`/plans/*.csv) stands at the top. Links are relative, so the folder can be moved or
    zipped.
    """
    from sourcematters.results.figures import caption  # takes long to import, and a command line needs the rest only

    folder = Path(folder)
    notebooks = [_executed(path) for path in sorted((folder / "notebooks").glob("[!.]*.ipynb"))]
    # The paper's own figures come first.
    pictures = sorted((folder / "figures").glob("[!.]*.png"), key=lambda p: (not p.name.startswith("fig"), p.name))
    figures = [(p, [q for q in (p.with_suffix(".pdf"), p.with_suffix(".csv")) if q.exists()]) for p in pictures]
    plans = [row for path in sorted((folder / "plans").glob("[!.]*.csv")) for row in _rows(path)]
    settings = folder / "tables" / "settings.csv"
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, ""), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["lasting"] = lasting
    page = environment.get_template("page.html.j2").render(
        name=folder.resolve().name,
        note=caption(row.get("caution", "") for row in plans),
        notebooks=notebooks,
        figures=figures,
        settings=[[row[k] for k in ("setting", "value", "profile")] for row in _rows(settings)],
    )
    files.write_text(folder / "index.html", page)
    return folder / "index.html"


def _rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; none if it is not there."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
