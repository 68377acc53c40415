"""The explorer as a page without a kernel: frames drawn beforehand, in one file that asks nobody for anything."""

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from sourcematters import checksums
from sourcematters.confounders import Confounder
from sourcematters.confounders.ladders import ladder
from sourcematters.errors import StudyError
from sourcematters.processes import progress
from sourcematters.results.style import title_of
from sourcematters.study.explorer.cases import Case, Subject
from sourcematters.study.explorer.frames import unit
from sourcematters.study.explorer.panels import PANELS, RAMP, TITLES, limit, panels, webp

SIDE = 256  # px of a picture: a frame then takes about 30 kB


def write(path: Path, subject: Subject, names: Iterable[str]) -> Path:
    """Write the page of these confounders on the subject's first image, each at the strengths of its `ladder`.

    Sealed beside it; returned is its path. A strength that cannot be drawn on the image is left out.
    """
    case, pool, shown = subject.cases[0], _Pool(), []
    for name in progress(list(names), desc="explorer", unit="confounder"):
        if rungs := _rungs(subject, case, subject.confounders[name], pool):
            kind = type(subject.confounders[name])
            shown.append({"title": title_of(name), "practice": kind.practice, **rungs})
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, ""), autoescape=True, undefined=jinja2.StrictUndefined
    )
    text = environment.get_template("page.html.j2").render(
        case=str(case),
        caution=subject.caution,
        confounders=shown,
        pictures=pool.pictures,
        panels={name: TITLES[name] for name in PANELS},
        ramp=RAMP,
    )
    checksums.usable(path, "it is written anew")
    with checksums.sealing(path) as beside:
        beside.write_text(text, encoding="utf-8")
    return path


class _Pool:
    """Pictures as data URIs, each once: what stands without a confounder is the same at every strength."""

    def __init__(self) -> None:
        self.pictures: list[str] = []
        self._places: dict[bytes, int] = {}

    def place(self, picture: Image.Image) -> int:
        """Where a picture stands in `pictures`."""
        small = webp(picture, SIDE)
        if small not in self._places:
            self._places[small] = len(self.pictures)
            self.pictures.append(f"data:image/webp;base64,{base64.b64encode(small).decode()}")
        return self._places[small]


def _rungs(subject: Subject, case: Case, given: Confounder, pool: _Pool) -> dict[str, Any]:
    """What the page shows of a confounder at each strength, with one scale for all their differences."""
    drawn = []
    for rung in ladder(given):
        try:
            drawn.append((rung, subject.frame(case, rung)))
        except StudyError:
            continue
    if not drawn:
        return {}
    end, varied = max(limit(arrays["difference"]) for _, arrays in drawn), _varied([rung for rung, _ in drawn])
    rungs = []
    for rung, arrays in drawn:
        ways = [panels(arrays, rung, subject.how, end=end, without=without) for without in (False, True)]
        label = ", ".join(_in_words(rung, name) for name in varied)
        rungs.append({
            "label": label or "as it is",
            "given": rung == given,
            "pictures": [{name: pool.place(panel.picture) for name, panel in way.items()} for way in ways],
            "words": [{name: panel.words for name, panel in way.items()} for way in ways],
            "scores": subject.scores(arrays),
        })  # fmt: skip
    return {"end": end, "unit": unit(given), "rungs": rungs}


def _in_words(rung: Confounder, name: str) -> str:
    told = type(rung).model_fields[name].description
    return f"{name.replace('_', ' ')} {getattr(rung, name):.4g}{f' ({told})' if told else ''}"


def _varied(rungs: list[Confounder]) -> list[str]:
    """The parameters in which strengths differ."""
    first = rungs[0]
    return [name for name in first.parameters() if len({getattr(rung, name) for rung in rungs}) > 1]
