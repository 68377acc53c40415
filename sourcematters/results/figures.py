"""The paper's curves: a tidy table in, a matplotlib Figure out, in the house style (see `style`).

Nothing here touches pyplot or any global setting. `save` and `caption` serve every figure of the package.
"""

import itertools
import numbers
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sourcematters import files

from sourcematters import metrics

from sourcematters.results import published
from sourcematters.errors import StudyError
from sourcematters.sources import MATCHED
from sourcematters.results.style import BASELINE, CHANCE, NORMAL, SMALL, Style, styles, title_of

ROWS = {"ood": "o.o.d. test", "iid": "i.i.d. test"}
PUBLISHED = "published state of the art"


def caption(*, data: Iterable[str], sources: Iterable[str] = ()) -> str:
    """What a figure must say of where it comes from: phantoms are not patients, a stand-in is not ImageNet.

    `data` and `sources` are names, as in the results table. Empty for real images and published weights.
    """
    said = []
    if any(name.endswith("phantoms") for name in data):
        said.append("phantoms, not patients")
    if any(source.removesuffix(MATCHED).endswith("-standin") for source in sources):
        said.append("stand-ins, not ImageNet or RadImageNet")
    return "; ".join(said)


def levels(given: Mapping[str, Any], tasks: Iterable[str]) -> dict[str, float]:
    """The published state of the art by task, as `robustness` takes it: an AUC, 0..1, for any of the `tasks`.

    Raises StudyError for a task that is none of them, or a value that is no AUC.
    """
    known = sorted(set(tasks))
    if unknown := sorted(str(task) for task in given if task not in known):
        raise StudyError(
            f"state_of_the_art: no result of task {', '.join(unknown)}. Name a task that was run: {', '.join(known)}."
        )
    return {task: _level(value, f"state_of_the_art of {task}") for task, value in given.items()}


def _level(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= value <= 1:
        raise StudyError(f"{what}: {value!r} is no AUC. Give a number in 0..1, such as 0.9.")
    return float(value)


def robustness(
    *,
    data: pd.DataFrame,
    confounders: Iterable[str] | None = None,
    baseline: float | Mapping[str, float] | None = None,
    note: str = "",
) -> Figure:
    """Fig. 3: AUC against the confounder's strength, o.o.d. row over i.i.d. row, a column a confounder.

    `data` is the table of `metrics.summarise` for one backbone: mean over folds, with the 95 % interval as
    error bars (cut at 0 and 1, shifted sideways by source so that they do not hide each other). `confounders`
    picks and orders the columns: `["noise", "noise_high_vs_low"]` draws the X-ray half of Fig. 4. `baseline`
    is the published state of the art, a dotted line, for all columns or by task (see `levels`). `note` is printed
    on top, e.g. "phantoms, not patients". A panel says so where the cohort has no such test. Raises StudyError for a
    missing column, a mean or baseline outside 0..1, an unknown confounder, or a panel that would mix tasks or
    backbones.
    """
    metrics.check(data, metrics.SUMMARY, "figure")
    if not (proper := data["mean"].between(0, 1)).all():
        raise StudyError(f"figure: a mean AUC of {data['mean'][~proper].iloc[0]} is outside 0..1. Summarise again.")
    names = list(dict.fromkeys(data["confounder"] if confounders is None else confounders))
    data = data[data["confounder"].isin(names) & data["test_set"].isin(list(ROWS))]
    tasks = {name: _task(data, name) for name in names}
    style = styles(data["source"])

    figure = Figure(figsize=(1.0 + 1.75 * max(len(names), 2), 4.6), layout="constrained")
    grid = figure.subplots(len(ROWS), len(names), sharex="col", sharey=True, squeeze=False)
    titles = []
    for column, name in enumerate(names):
        level = baseline.get(tasks[name]) if isinstance(baseline, Mapping) else baseline
        if level is not None:
            level = _level(level, f"figure, baseline of {tasks[name]}")
        in_column = data[data["confounder"] == name]
        for row, test_set in enumerate(ROWS):
            grid[row, column].axhline(0.5, zorder=0, label="chance", **CHANCE)
            if level is not None:
                grid[row, column].axhline(level, zorder=0, label=PUBLISHED, **BASELINE)
            panel = in_column[in_column["test_set"] == test_set]
            _curves(grid[row, column], panel, style)
            if panel.empty:
                grid[row, column].text(
                    0.5, 0.7, "the cohort has no such test", ha="center", fontsize=SMALL, color="#707070"
                )
        strengths = sorted(in_column["p_art"].unique())
        grid[-1, column].set_xticks(strengths, [f"{p:.2g}".replace("0.", ".") for p in strengths])
        title = title_of(name)
        titles.append(f"{title}\n{tasks[name]}" if len(set(tasks.values())) > 1 else title)
    _label(figure, grid, titles=titles, rows=ROWS.values(), measure="AUC", folds=_folds(data))
    _legend(figure, note)
    return figure


def by_task(
    *,
    data: pd.DataFrame,
    confounders: Iterable[str],
    test_set: str = "ood",
    baseline: Mapping[str, float] | None = None,
    note: str = "",
) -> Figure:
    """Fig. 4: AUC of one test set against the confounder's strength, a row a task, a column a confounder.

    `data` is the table of `metrics.summarise` for one backbone, `baseline` as in `robustness`. With X-ray and CT as
    tasks, and the two designs of noise as `confounders`, it is the paper's figure. Raises StudyError as `robustness`
    does, and if nothing is left to draw.
    """
    metrics.check(data, metrics.SUMMARY, "figure")
    names = list(confounders)
    data = data[data["confounder"].isin(names) & (data["test_set"] == test_set)]
    if data.empty or data["backbone"].nunique() > 1:
        found = ", ".join(sorted(data["backbone"].unique())) or "no row"
        raise StudyError(f"figure: {', '.join(names)} in test set {test_set}: {found}; one backbone is drawn.")
    tasks, style = list(dict.fromkeys(data["task"])), styles(data["source"])
    figure = Figure(figsize=(1.0 + 1.75 * max(len(names), 2), 0.4 + 2.1 * len(tasks)), layout="constrained")
    grid = figure.subplots(len(tasks), len(names), sharex=True, sharey=True, squeeze=False)
    for axes, (task, name) in zip(grid.flat, itertools.product(tasks, names), strict=True):
        axes.axhline(0.5, zorder=0, label="chance", **CHANCE)
        if (level := (baseline or {}).get(task)) is not None:
            axes.axhline(_level(level, f"figure, baseline of {task}"), zorder=0, label=PUBLISHED, **BASELINE)
        panel = data[(data["task"] == task) & (data["confounder"] == name)]
        _curves(axes, panel, style)
        if panel.empty:
            axes.text(0.5, 0.7, "no such runs", ha="center", fontsize=SMALL, color="#707070")
    strengths = sorted(data["p_art"].unique())
    grid[-1, 0].set_xticks(strengths, [f"{p:.2g}".replace("0.", ".") for p in strengths])
    titles = [title_of(name) for name in names]
    rows = [f"{task}\n{ROWS[test_set]}" for task in tasks]
    _label(figure, grid, titles=titles, rows=rows, measure="AUC", folds=_folds(data))
    _legend(figure, note)
    return figure


def against(*, data: pd.DataFrame, note: str = "") -> Figure:
    """Our curves on the published ones: o.o.d. row over i.i.d. row, a column a panel of Figs. 3 and 4.

    `data` is the table of `published.compare`. Ours as in `robustness`; the published means are hollow markers,
    their bars the error of reading them off the paper's figures. `note` is printed on top: what the comparison is
    worth. Raises StudyError for a missing column.
    """
    metrics.check(data, published.COMPARISON, "figure")
    names = list(dict.fromkeys(data["panel"]))
    style = styles(data["source"])
    figure = Figure(figsize=(1.0 + 1.75 * max(len(names), 2), 5.0), layout="constrained")
    grid = figure.subplots(len(ROWS), len(names), sharex="col", sharey=True, squeeze=False)
    for column, name in enumerate(names):
        in_column = data[data["panel"] == name]
        for row, test_set in enumerate(ROWS):
            panel, axes = in_column[in_column["test_set"] == test_set], grid[row, column]
            _curves(axes, panel.rename(columns={"ours": "mean"}), style)
            _published(axes, panel, style)
            if panel.empty:
                axes.text(0.5, 0.25, "not published", ha="center", fontsize=SMALL, color="#707070")
        strengths = sorted(in_column["p_art"].unique())
        grid[-1, column].set_xticks(strengths, [f"{p:.2g}".replace("0.", ".") for p in strengths])
    titles = [published.PANELS[name].title for name in names]
    _label(figure, grid, titles=titles, rows=ROWS.values(), measure="AUC as published", folds=f"ours: {_folds(data)}")
    _legend(figure, textwrap.fill(note, 26 * max(len(names), 2)))
    return figure


def _published(axes: Axes, panel: pd.DataFrame, style: dict[str, Style]) -> None:
    """The published means of one panel, each curve once, beside our first source that is laid on it."""
    for source, curve in panel.drop_duplicates(["published_source", "p_art"]).groupby("source", sort=False):
        curve, look = curve.sort_values("p_art"), style[source]
        axes.errorbar(
            curve["p_art"] + _aside(panel, source, style), curve["published"], yerr=curve["read_error"],
            label=f"{curve['published_source'].iloc[0]}, published", color=look.color, marker=look.marker,
            linestyle=(0, (1, 2)), linewidth=0.8, markersize=4.5, markerfacecolor="white", markeredgewidth=0.9,
            elinewidth=2.5, clip_on=False, zorder=4,
        )  # fmt: skip


def _label(
    figure: Figure, grid: NDArray[np.object_], *, titles: list[str], rows: Iterable[str], measure: str, folds: str
) -> None:
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=NORMAL, weight="bold")
    for axes, label in zip(grid[:, 0], rows, strict=True):
        axes.set_ylabel(f"{label}\n{measure}", fontsize=NORMAL)
    figure.supxlabel(f"strength of the correlation, $p_\\mathrm{{art}}$\n{folds}", fontsize=SMALL + 0.5)


def _task(data: pd.DataFrame, confounder: str) -> str:
    part = data[data["confounder"] == confounder]
    if part.empty:
        raise StudyError(f"figure: the table has no o.o.d. or i.i.d. row for confounder {confounder!r}.")
    for column in ("task", "backbone"):
        if len(found := sorted(part[column].unique())) > 1:
            raise StudyError(
                f"figure: {confounder} has more than one {column} ({', '.join(found)}). Draw one at a time: "
                f"data[data.{column} == {found[0]!r}]."
            )
    return str(part["task"].iloc[0])


def _curves(axes: Axes, panel: pd.DataFrame, style: dict[str, Style]) -> None:
    """One panel: a curve a source."""
    for source, look in style.items():
        curve = panel[panel["source"] == source].sort_values("p_art")
        if curve.empty:
            continue
        # Keras's AUC of a perfect ranking can exceed 1 by a rounding error: no bar may be negative.
        low = (curve["mean"] - curve["ci_low"].clip(0, 1)).clip(lower=0)
        high = (curve["ci_high"].clip(0, 1) - curve["mean"]).clip(lower=0)
        axes.errorbar(
            curve["p_art"] + _aside(panel, source, style), curve["mean"], yerr=[low, high],
            label=source, color=look.color, marker=look.marker, linestyle=look.linestyle, linewidth=1.3,
            markersize=4, markerfacecolor="white" if look.hollow else look.color,
            markeredgecolor=look.color if look.hollow else "white", markeredgewidth=0.8 if look.hollow else 0.5,
            elinewidth=0.9, capsize=1.8, clip_on=False, zorder=3,
        )  # fmt: skip
    axes.set(xlim=(-0.06, 1.06), ylim=(-0.02, 1.02), yticks=np.linspace(0, 1, 6))
    axes.tick_params(labelsize=SMALL, length=2.5)
    axes.grid(axis="y", color="#EBEBEB", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _aside(panel: pd.DataFrame, source: str, style: dict[str, Style]) -> float:
    """How far a source stands beside its strength, so that error bars do not hide each other."""
    step = min(0.025, 0.25 * min(np.diff(np.sort(panel["p_art"].unique())), default=0.1))
    return (list(style).index(source) - (len(style) - 1) / 2) * step


def _legend(figure: Figure, note: str) -> None:
    """One legend above all panels, under the note: the sources first, then the reference lines."""
    handles = {h.get_label(): h for axes in figure.axes for h in axes.get_legend_handles_labels()[0]}
    ordered = sorted(handles.values(), key=lambda handle: handle.get_label() in ("chance", PUBLISHED))
    across = 3
    by_column = [ordered[k] for first in range(across) for k in range(first, len(ordered), across)]
    figure.legend(
        handles=by_column, ncols=across, loc="outside upper center", frameon=False, handlelength=3.2,
        fontsize=SMALL + 0.5, title=note, title_fontproperties={"weight": "bold", "size": NORMAL},
    )  # fmt: skip


def _folds(data: pd.DataFrame) -> str:
    fewest, most = int(data["folds"].min()), int(data["folds"].max())
    if most == 1:
        return "one fold: no confidence interval"
    return f"mean of {most if fewest == most else f'{fewest} to {most}'} folds, 95 % confidence interval"


def save(figure: Figure, path: str | Path, table: pd.DataFrame) -> list[Path]:
    """Write `path`.png (200 dpi), `path`.pdf and `path`.csv (the tidy table); return the three.

    `path` has no suffix. The same figure gives the same bytes: no date is written. Raises StudyError if the
    place cannot be written.
    """
    path = Path(path)
    png, pdf, csv = (path.with_name(f"{path.name}{suffix}") for suffix in (".png", ".pdf", ".csv"))
    with files.replacing(png) as beside:
        figure.savefig(beside, dpi=200)
    # Type 42 keeps the text as text, which journals ask for.
    with files.replacing(pdf) as beside, matplotlib.rc_context({"pdf.fonttype": 42}):
        figure.savefig(beside, dpi=200, metadata={"CreationDate": None})
    files.write_csv(csv, table)
    return [png, pdf, csv]
