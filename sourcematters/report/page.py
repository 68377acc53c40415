"""The page of a results folder: `index.html`, which asks nobody for anything, and `report.json` with its numbers."""

import base64
import hashlib
import os
from functools import cache, partial
from html import escape
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from sourcematters import files
from sourcematters.report import content, data, findings, tables
from sourcematters.report.captions import AUDIT, GROUPS, WHERE
from sourcematters.report.executed import notebooks
from sourcematters.report.pictures import Picture, embedded, pictures
from sourcematters.report.provenance import provenance
from sourcematters.report.tables import rows
from sourcematters.report.words import interval, lasting, named, number
from sourcematters.results import style
from sourcematters.results.verdicts import LEANS, NO_SIGN, NOT_VISIBLE, TOO_LITTLE

PDF = "report.pdf"
FIRST = ("forest", "overview", "fig3")  # the one figure beside the answer of a study, the first that is there
ON_PLACES = ("_share", "_maps", "_frequencies")  # figures of where networks look
AS_IT_IS = ("file", "name", "provenance")  # of what stands on the page: names of files, folders and versions
EXPLORERS = ("explorer.html", "audit_explorer.html")  # of the study, and of the audit
OF_AUDIT = ("audit_leaning", "audit_sources")
SIGNS = {LEANS: ("leans", "\N{BLACK CIRCLE}"), NO_SIGN: ("none", "\N{WHITE CIRCLE}")}
SIGNS |= {NOT_VISIBLE: ("unseen", "\N{MULTIPLICATION SIGN}"), TOO_LITTLE: ("little", "?")}
WIDEST = 1.0  # of an effect, that is drawn; an interval beyond it ends in an arrow


def write(folder: str | Path) -> Path:
    """Write `folder`/index.html and report.json from the results in `folder`, and return the page's path.

    Links are relative, so the folder can be moved or zipped. The same files make the same page, byte for byte; a PDF of
    another page is deleted.
    """
    folder = Path(folder)
    tables.forget()
    page, numbers = _rendered(folder)
    index = folder / "index.html"
    if (folder / PDF).exists() and (not index.exists() or index.read_text(encoding="utf-8", errors="replace") != page):
        (folder / PDF).unlink()
    files.write_json(folder / "report.json", numbers)
    files.write_text(index, page)
    return index


def link(page: Path, beside: Path, says: str = "All that this study has shown") -> str:
    """A line of HTML that leads to a page from a notebook in the folder `beside`, in JupyterLab and in a browser."""
    href = quote(Path(os.path.relpath(page, beside)).as_posix())
    where = f"<a href='{href}'>{page.name}</a> in <code>{escape(str(page.parent))}</code>"
    return f"<p>{says}: {where}</p>"


def _rendered(folder: Path) -> tuple[str, dict[str, Any]]:
    found, compared, executed = findings.answers(folder), findings.differences(folder), notebooks(folder)
    question, facts = content.asked(folder, found)
    drawn = pictures(folder)
    answer = findings.of_model(folder, found) + findings.of_sources(found, compared)
    confounded, confounded_tables = content.confounded(folder)
    controls, control_tables, positive = content.controls(folder, found)
    flipped, flipped_images = content.flipped(folder)
    declared, primary, more, folded = content.statistic(folder, compared)
    told: dict[str, Any] = {
        "name": folder.resolve().name,
        "question": question,
        "asked": facts,
        "notes": content.notes(folder),
        "answer": answer,
        "questions": content.questions(folder, found, compared),
        "confounded": confounded,
        "confounded_tables": confounded_tables,
        "where_tables": content.where(folder),
        "flipped": flipped,
        "flipped_images": flipped_images,
        "controls": controls,
        "control_tables": control_tables,
        "positive": positive,
        "checks": data.checks(folder),
        "declared": declared,
        "primary": primary,
        "more": more,
        "folded": folded,
        "limits": content.limits(folder, found, compared),
        "provenance": provenance(folder, executed),
    }
    first = _first(drawn, found)
    where = [
        picture
        for end in ON_PLACES
        for name, picture in drawn.items()
        if picture.caption.group == WHERE and name.endswith(end)
    ]
    flips, in_data = (drawn.get(name) for name in ("audit_flipped", "audit_data"))
    shown = [picture for picture in (first, *where, flips, in_data) if picture]
    others = [picture for picture in drawn.values() if picture not in shown]
    groups = [(group, [each for each in others if each.caption.group == group]) for group in GROUPS]
    script = Markup((package_files(__package__) / "sort.js.j2").read_text(encoding="utf-8"))
    sources = {each.who for each in found if not each.of_model}.union(*((each.a, each.b) for each in compared))
    in_words = partial(_in_words, sources=sources, tasks={each.task for each in found})
    page = _environment().get_template("page.html.j2").render(
        **in_words(told),
        scale=_scale(found),
        findings=[each._replace(**in_words({"who": each.who, "task": each.task, "sentence": each.sentence}))
                  for each in found],
        audited=any(each.of_model for each in found),
        several_tasks=len({each.task for each in found if each.task}) > 1,
        first=first,
        where=where,
        flipped_figure=flips if flips is not first else None,
        data_figure=in_data if in_data is not first else None,
        groups=[(group, them) for group, them in groups if them],
        notebooks=executed,
        settings=rows(folder / "tables" / "settings.csv", "setting", "value", "profile"),
        explorers=[name for name in EXPLORERS if (folder / name).exists()],
        script=script,
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )  # fmt: skip
    numbers = {**told, "findings": [each._asdict() for each in found]}
    numbers["differences"] = [each._asdict() for each in compared]
    numbers["figures"] = [{"name": each.name, **each.caption._asdict()} for each in drawn.values()]
    numbers["notebooks"] = [each._asdict() for each in executed]
    return page, _plain(numbers)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, ""), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"lasting": lasting, "named": named, "number": number, "embedded": embedded}
    environment.globals |= {"signs": SIGNS, "interval": interval, "said_of": content.said_of, "AUDIT": AUDIT}
    return environment


def _first(drawn: dict[str, Picture], found: list[findings.Answer]) -> Picture | None:
    """The one figure beside the answer."""
    name, _ = findings.leading(found)
    curves = [each.name for each in drawn.values() if each.table and each.table[0].get("confounder") == name]
    of_model = bool(found) and found[0].of_model
    of_study = [*FIRST, name, *(each for each in curves if not each.endswith("_artefact"))]
    order = [*OF_AUDIT, *of_study] if of_model else [*of_study, *OF_AUDIT]
    return next((drawn[each] for each in [*order, "audit_data"] if each in drawn), None)


def _scale(found: list[findings.Answer]) -> tuple[float, float]:
    """From where to where effects are drawn: all intervals, 0, and no further than `WIDEST`."""
    ends = [end for each in found for end in (each.low, each.high, each.effect) if end == end]
    return max(min([0.0, *ends]), -WIDEST) - 0.02, min(max([0.1, *ends]), WIDEST) + 0.02


def _in_words(value: Any, sources: set[str], tasks: set[str]) -> Any:
    """With sources and tasks by what figures call them; `AS_IT_IS` and report.json have the settings' names."""
    if isinstance(value, str):
        return style.named(value, sources, tasks)
    if isinstance(value, dict):
        return {key: each if key in AS_IT_IS else _in_words(each, sources, tasks) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_in_words(each, sources, tasks) for each in value)
    return value


def _plain(value: Any) -> Any:
    """As JSON has it: what is no number is null, and a cell has its text and its value."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], float):
        return {"text": value[0], "value": _plain(value[1])}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and value != value else value
