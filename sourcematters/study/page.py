"""The index page of an executed study: what was run, with which settings, and its figures.

Everything on the page is read from the results folder, so it shows what is there, whichever calls made it.
"""

import os
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import nbformat
import pandas as pd

from sourcematters import checksums, files
from sourcematters.results.figures import caption, cautions


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


def lasting(seconds: float) -> str:
    """A duration for people: 4.2 s, 3 min 05 s, 2 h 10 min."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _executed(path: Path) -> Iterator[dict[str, Any]]:
    """What the page's template shows of an executed notebook, as its own metadata tell; nothing of what is none."""
    try:
        content = nbformat.read(path, as_version=4)
        about = content.metadata.get("papermill", {})
        ended = about.get("end_time")
        yield {
            "path": path,
            "number": path.stem.split("_")[0],
            "title": heading(content.cells)[0] or path.stem,
            "failed": about.get("exception"),
            "seconds": float(about.get("duration") or 0),
            "ended": f"{datetime.fromisoformat(ended).astimezone():%Y-%m-%d %H:%M}" if ended else "",
        }
    except Exception as error:  # whatever is in a file that somebody else left there
        checksums.tell(f"{path}: not readable as a notebook ({type(error).__name__})", "index.html passes over it")


def index(folder: str | Path) -> Path:
    """Write `folder`/index.html for the study executed in `folder`, and return its path.

    Shows `folder`/notebooks/*.ipynb (linking the .html beside each); `folder`/figures/*.png, each with links to the
    .pdf and .csv of the same name; and `folder`/tables/settings.csv. What must be said of data and sources (column
    `caution`) stands at the top, by task where tasks differ (`folder`/plans/*.csv), and under each figure (its .csv).
    Links are relative, so the folder can be moved or zipped.
    """
    folder = Path(folder)
    paths = sorted((folder / "notebooks").glob("[!.]*.ipynb"))
    notebooks = [about for path in paths for about in _executed(path)]
    # The paper's own figures come first.
    pictures = sorted((folder / "figures").glob("[!.]*.png"), key=lambda p: (not p.name.startswith("fig"), p.name))
    beside = [[q for q in (p.with_suffix(".pdf"), p.with_suffix(".csv")) if q.exists()] for p in pictures]
    figures = [(p, others, _words(_rows(p.with_suffix(".csv")))) for p, others in zip(pictures, beside, strict=True)]
    plans = [row for path in sorted((folder / "plans").glob("[!.]*.csv")) for row in _rows(path)]
    settings = folder / "tables" / "settings.csv"
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, ""), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["lasting"] = lasting
    page = environment.get_template("page.html.j2").render(
        name=folder.resolve().name,
        notes=_words(plans),
        notebooks=notebooks,
        figures=figures,
        settings=[[row[k] for k in ("setting", "value", "profile")] for row in _rows(settings)],
    )
    files.write_text(folder / "index.html", page)
    return folder / "index.html"


def link(page: Path, beside: Path) -> str:
    """A line of HTML that leads to a page from a notebook in the folder `beside`, in JupyterLab and in a browser."""
    href = quote(Path(os.path.relpath(page, beside)).as_posix())
    where = f"<a href='{href}'>{page.name}</a> in <code>{escape(str(page.parent))}</code>"
    return f"<p>All that this study has shown: {where}</p>"


def _words(rows: list[dict[str, str]]) -> list[str]:
    """What must be said of the rows of a plan or figure, by task where they have one."""
    if all("task" in row for row in rows):
        return cautions(pd.DataFrame(rows, columns=["task", "caution"]))
    return list(filter(None, [caption(row.get("caution", "") for row in rows)]))


def _rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; none if it is not there, or not what was written, which is said."""
    if not checksums.usable(path, "index.html passes over it"):
        return []
    return pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")
