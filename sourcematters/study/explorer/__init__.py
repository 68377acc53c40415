"""The explorer: a hand on the confounder. In a notebook as widgets, beside the results as a page without a kernel."""

import base64
import os
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from IPython.display import HTML, display

from sourcematters.errors import StudyError
from sourcematters.report import link
from sourcematters.results.style import title_of
from sourcematters.study.explorer import page
from sourcematters.study.explorer.cases import Network, Subject, cases, drawable
from sourcematters.study.explorer.frames import frame, keys_of, unit
from sourcematters.study.explorer.panels import TITLES, limit, panels, webp
from sourcematters.study.explorer.widget import scale, widget

__all__ = ["Network", "Subject", "cases", "drawable", "explore", "frame", "keys_of"]
STATIC = 224  # px of a picture in an executed notebook


def explore(subject: Subject, names: Iterable[str], path: Path, *, beside: Path) -> Any:
    """The widgets, after the page of the confounders called `names` was written to `path` and linked.

    The link leads there from the folder `beside`. Headless, the first frame as HTML: nobody could move
    anything there, and pages of executed notebooks ask nobody for a widget's code.
    """
    if not subject.confounders:
        where = f"no confounder can be drawn on {subject.cases[0]}"
        raise StudyError(f"explorer: {where}. Choose images of another size or kind.")
    page.write(path, subject, [name for name in names if name in subject.confounders])
    # JupyterLab finds a relative link in an output, and not in a widget.
    display(HTML(link(path, beside, "The same without a kernel")))
    return HTML(_first(subject)) if os.environ.get("SOURCEMATTERS_HEADLESS") else widget(subject)


def _first(subject: Subject) -> str:
    """The first frame as HTML."""
    confounder, case = next(iter(subject.confounders.values())), subject.cases[0]
    arrays = subject.frame(case, confounder)
    end, figures = limit(arrays["difference"]), []
    for name, panel in panels(arrays, confounder, subject.how, end=end).items():
        picture = base64.b64encode(webp(panel.picture, STATIC)).decode()
        words, bar = escape(panel.words), scale(end, unit(confounder)) if name == "difference" else ""
        figures.append(
            f"<figure style='margin: 0; width: {STATIC}px; max-width: 100%'><img style='width: 100%' "
            f"alt='{TITLES[name]}: {words}' src='data:image/webp;base64,{picture}'>"
            f"<figcaption><b>{TITLES[name]}</b>{bar}<br>{words}</figcaption></figure>"
        )
    about = ": ".join(filter(None, [f"{title_of(confounder.name)} on {case}", subject.caution]))
    said = "".join(f"<p>{escape(each)}</p>" for each in [about, *subject.scores(arrays)])
    return f"<div style='display: flex; flex-wrap: wrap; gap: 1em'>{''.join(figures)}</div>{said}"
