"""The explorer as widgets of a notebook: a thin layer over frames.

Whoever drags a slider causes no queue: a front end of ipywidgets sends the next value only after the kernel has drawn
the last one, and leaves out those between.
"""

from functools import partial
from html import escape
from typing import Any

from sourcematters.confounders import Confounder
from sourcematters.errors import StudyError
from sourcematters.results.style import title_of
from sourcematters.study.explorer.cases import Subject
from sourcematters.study.explorer.frames import unit
from sourcematters.study.explorer.panels import ORANGE, PANELS, RAMP, TITLES, limit, panels, png
from sourcematters.study.explorer.stops import stops


def widget(subject: Subject) -> Any:
    """Widgets to choose image, confounder and parameters with, and what comes of them.

    What cannot be drawn is said in a sentence, beside the pictures of what could.
    """
    import ipywidgets  # type: ignore[import-untyped]

    wide = {"description_width": "7em"}
    box: Any = partial(dict, style=wide, layout=ipywidgets.Layout(width="26em"))
    image = ipywidgets.Dropdown(options=[(str(case), case) for case in subject.cases], description="image", **box())
    names = [(title_of(name), name) for name in subject.confounders]
    chosen = ipywidgets.Dropdown(options=names, description="confounder", **box())
    blink = ipywidgets.Checkbox(False, description="show it without", indent=True, **box())
    sliders, said = ipywidgets.VBox(), ipywidgets.HTML()
    pictures = {name: ipywidgets.Image(format="png", layout=ipywidgets.Layout(width="100%")) for name in PANELS}
    # Of a picture with a tooltip ipywidgets 8.1 shows an error in its place: what it shows stands below it.
    words = {name: ipywidgets.HTML() for name in PANELS}
    parameters: dict[str, Any] = {}

    def draw(_: Any = None) -> None:
        try:
            values = {name: control.value for name, control in parameters.items()}
            confounder = subject.confounders[chosen.value].replaced(**values)
            arrays = subject.frame(image.value, confounder)
            end = limit(arrays["difference"])
            for name, panel in panels(arrays, confounder, subject.how, end=end, without=blink.value).items():
                bar = scale(end, unit(confounder)) if name == "difference" else ""
                pictures[name].value = png(panel.picture)
                words[name].value = _close(f"<b>{TITLES[name]}</b>{bar}<br>{escape(panel.words)}")
            # Last, for a large network takes longer than all pictures.
            said.value = _close("<br>".join(map(escape, subject.scores(arrays))))
        except StudyError as error:
            said.value = sentence(str(error))

    def choose(_: Any = None) -> None:
        confounder = subject.confounders[chosen.value]
        parameters.clear()
        parameters.update({name: _control(ipywidgets, confounder, name, box()) for name in confounder.parameters()})
        for control in parameters.values():
            control.observe(draw, "value")
        sliders.children = list(parameters.values())
        draw()

    for control, then in ((image, draw), (blink, draw), (chosen, choose)):
        control.observe(then, "value")
    choose()
    shown = [ipywidgets.VBox([pictures[name], words[name]]) for name in PANELS]
    columns = ipywidgets.Layout(
        grid_template_columns="repeat(auto-fit, minmax(14em, 1fr))", flex="1 1 32em", grid_gap="1em"
    )
    wrapped = ipywidgets.Layout(flex_flow="row wrap", align_items="flex-start")
    left = ipywidgets.VBox([image, chosen, sliders, blink, said], layout=ipywidgets.Layout(width="27em"))
    grid = ipywidgets.GridBox(shown, layout=columns)
    return ipywidgets.VBox([ipywidgets.HBox([left, grid], layout=wrapped), ipywidgets.HTML(escape(subject.caution))])


def _control(ipywidgets: Any, confounder: Confounder, name: str, box: dict[str, Any]) -> Any:
    """What a parameter is changed with: a slider, a list of choices, a box to tick, or a line of text."""
    now, told = getattr(confounder, name), type(confounder).model_fields[name].description or name
    same = {"value": now, "description": name.replace("_", " "), "tooltip": told, **box}
    offered = stops(confounder, name)
    if isinstance(now, bool):
        return ipywidgets.Checkbox(**same)
    if not offered:
        return ipywidgets.Text(continuous_update=False, **same)
    if isinstance(now, str):
        return ipywidgets.Dropdown(options=offered, **same)
    return ipywidgets.SelectionSlider(options=[(f"{value:.4g}", value) for value in offered], **same)


def _close(html: str) -> str:
    """Lines as close as in a text: those of ipywidgets are as far apart as controls."""
    return f"<div style='line-height: 1.35'>{html}</div>"


def scale(end: int, of: str) -> str:
    """A bar of the difference's colours from -`end` to `end`, as HTML."""
    bar = f"background: {RAMP}"
    bar += "; display: inline-block; width: 5em; height: .7em; border: 1px solid #888; vertical-align: baseline"
    return f" <span style='white-space: nowrap'>\N{MINUS SIGN}{end} <span style='{bar}'></span> +{end} {of}</span>"


def sentence(text: str) -> str:
    """What is wrong, as HTML that a screen reader speaks."""
    style = f"border-left: .3em solid {ORANGE}; padding-left: .6em; line-height: 1.35"
    return f"<p role='alert' style='{style}'>{escape(text)}</p>"
