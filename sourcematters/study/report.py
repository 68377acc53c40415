"""The index page of an executed study: what was run, with which parameters, and its figures.

Everything on the page is read from the results folder, so it shows what is there, whichever calls made it.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sourcematters import files

STYLE = """
:root { color-scheme: light; --ink: #1d2329; --soft: #5d6873; --line: #dde2e6; --link: #0b5394; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 3.5rem 2rem 5rem; max-width: 68rem; color: var(--ink); background: #fff;
  font: 16px/1.55 "Source Sans 3", "Helvetica Neue", Helvetica, Arial, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; font-weight: 600; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.15rem; font-weight: 600; margin: 3rem 0 .9rem; padding-bottom: .4rem;
  border-bottom: 1px solid var(--line); }
.lede { color: var(--soft); margin: 0; }
.note { margin: 1.8rem 0 0; padding: .8rem 1.1rem; border-left: 4px solid #b45309; background: #fdf6ec;
  font-weight: 600; }
a { color: var(--link); text-decoration: none; }
a:hover, a:focus-visible { text-decoration: underline; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; font-size: .82rem; color: var(--soft); }
th, td { padding: .42rem 1.2rem .42rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.value { font-family: ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; font-size: .86rem;
  overflow-wrap: anywhere; }
td.quiet { color: var(--soft); white-space: nowrap; }
.failed { color: #a61b1b; font-weight: 600; }
figure { margin: 0 0 3rem; }
figure img { display: block; max-width: 100%; max-height: 36rem; margin: 0 auto; }
figcaption { margin-top: .5rem; color: var(--soft); }
figcaption b { color: var(--ink); font-weight: 600; margin-right: .6rem; }
figcaption a { margin-right: .7rem; }
@media print { body { padding: 0; max-width: none; } figure { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Executed:
    """An executed notebook, as its own metadata tell."""

    path: Path
    title: str
    failed: bool
    seconds: float
    ended: str
    parameters: dict[str, Any]

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
    told = content["metadata"].get("papermill", {})
    ended = told.get("end_time")
    return Executed(
        path=path,
        title=heading(content["cells"])[0] or path.stem,
        failed=bool(told.get("exception")),
        seconds=told.get("duration") or 0.0,
        ended=f"{datetime.fromisoformat(ended).astimezone():%Y-%m-%d %H:%M}" if ended else "",
        parameters=told.get("parameters", {}),
    )


def index(folder: str | Path) -> Path:
    """Write `folder`/index.html for the study executed in `folder`, and return its path.

    Shows `folder`/notebooks/*.ipynb (linking the .html beside each), the parameters they were given, and
    `folder`/figures/*.png, each with links to the .pdf and .csv of the same name. What the figures must say
    of their data and sources (`figures.caption`) stands at the top. Links are relative, so the folder can be
    moved or zipped.
    """
    from sourcematters.results.figures import caption

    folder = Path(folder)
    executed = [_executed(path) for path in sorted((folder / "notebooks").glob("[!.]*.ipynb"))]
    # The paper's own figures come first.
    figures = sorted((folder / "figures").glob("[!.]*.png"), key=lambda p: (not p.name.startswith("fig"), p.name))
    name = escape(folder.resolve().name)
    note = caption(
        data=[str(e.parameters.get("data", "")) for e in executed],
        sources=[str(source) for e in executed for source in e.parameters.get("sources", [])],
    )
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Source Matters: {name}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
        "<h1>Source Matters</h1>\n<p class='lede'>Does the pretraining source change how much a network "
        f"leans on confounders? Profile <b>{name}</b>.</p>",
        f"<p class='note'>{escape(note[0].upper() + note[1:])}.</p>" if note else "",
        "<h2>Notebooks</h2>",
        _table(["", "Notebook", "", "Time", "Finished", ""], map(_notebook_row, executed)),
        "<h2>Figures</h2>",
        *(map(_figure, figures) if figures else ["<p class='lede'>None yet.</p>"]),
        "<h2>Parameters</h2>",
        _table(["Parameter", "Value", "Notebooks"], _parameter_rows(executed)),
        "</body>\n</html>\n",
    ]
    files.write_text(folder / "index.html", "\n".join(parts))
    return folder / "index.html"


def _table(header: list[str], rows: Iterable[str]) -> str:
    head = "".join(f"<th scope='col'>{cell}</th>" for cell in header)
    return "\n".join([f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>", *rows, "</tbody>\n</table>"])


def _link(path: Path, text: str) -> str:
    return f"<a href='{quote(f'{path.parent.name}/{path.name}')}'>{escape(text)}</a>"


def _notebook_row(notebook: Executed) -> str:
    status = "<span class='failed'>failed</span>" if notebook.failed else "done"
    return (
        f"<tr><td class='quiet'>{escape(notebook.number)}</td>"
        f"<td>{_link(notebook.path.with_suffix('.html'), notebook.title)}</td>"
        f"<td class='quiet'>{status}</td><td class='quiet'>{lasting(notebook.seconds)}</td>"
        f"<td class='quiet'>{notebook.ended}</td><td class='quiet'>{_link(notebook.path, 'ipynb')}</td></tr>"
    )


def _parameter_rows(executed: list[Executed]) -> Iterable[str]:
    """One row a parameter and value: notebooks given different values are told apart."""
    users = defaultdict(list)
    for notebook in executed:
        for key, value in notebook.parameters.items():
            users[key, repr(value)].append(notebook.number)
    for (key, value), numbers in users.items():
        yield (
            f"<tr><td>{escape(key)}</td><td class='value'>{escape(value)}</td>"
            f"<td class='quiet'>{escape(', '.join(numbers))}</td></tr>"
        )


def _figure(path: Path) -> str:
    caption = path.stem.replace("_", " ")
    beside = [path.with_suffix(suffix) for suffix in (".pdf", ".csv")]
    links = " ".join(_link(other, other.suffix[1:].upper()) for other in beside if other.exists())
    source = quote(f"{path.parent.name}/{path.name}")
    return (
        f"<figure>\n<a href='{source}'><img src='{source}' alt='{escape(caption)}'></a>\n"
        f"<figcaption><b>{escape(caption)}</b>{links}</figcaption>\n</figure>"
    )
