"""The paper's curves: a tidy table in, a matplotlib Figure out; nothing touches pyplot or any global setting.

`save` and `caption` serve every figure of the package.
"""

import itertools
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from sourcematters import files
from sourcematters.errors import StudyError
from sourcematters.results import published
from sourcematters.results.style import (
    BASELINE,
    CHANCE,
    NORMAL,
    SMALL,
    Style,
    frame,
    literal,
    styles,
    title_of,
    written,
)

ROWS = {"ood": "o.o.d. test", "iid": "i.i.d. test"}
PUBLISHED = "published state of the art"
CLEAN = "clean test (thin)"
UNLEARNED = "did not learn, in some fold"

LETTERS = 12  # of a bold line, that fit into an inch

Labels = tuple[str, Mapping[str, str]]
"""A column of the table, and what to print for each of its values, in the order in which they are drawn."""


def caption(cautions: Iterable[str]) -> str:
    """What a figure must say of its data and sources: the distinct cautions of a table's column `caution`."""
    return "; ".join(_parts(cautions))


def _parts(cautions: Iterable[str]) -> list[str]:
    # pandas reads an empty cell as NaN, which is no text.
    parts = (part for caution in cautions if isinstance(caution, str) for part in caution.split("; "))
    return list(dict.fromkeys(filter(None, parts)))


def _shared(groups: Iterable[list[str]]) -> list[str]:
    """What stands in every one of these lists."""
    first, *others = groups or [[]]
    return [part for part in first if all(part in other for other in others)]


def cautions(table: pd.DataFrame) -> list[str]:
    """The column `caution` in words: what holds of every task, then of each task by itself, as `mass-ct: phantoms`."""
    by_task = {str(task): _parts(part["caution"]) for task, part in table.groupby("task", sort=False)}
    shared = _shared(by_task.values())
    own = {task: "; ".join(part for part in parts if part not in shared) for task, parts in by_task.items()}
    return [*(["; ".join(shared)] if shared else []), *(f"{task}: {text}" for task, text in own.items() if text)]


def robustness(
    *, data: pd.DataFrame, confounders: Iterable[str] = (), baseline: Mapping[str, float] = {}, note: str = ""
) -> Figure:
    """Fig. 3: AUC against the confounder's strength, o.o.d. row over i.i.d. row, a column a confounder.

    `data` is the table of `statistics.summarise` for one backbone: mean over folds, with the 95 % interval over folds
    and test patients as error bars (shifted sideways by source so that they do not hide each other).
    The clean test is a thin line in the o.o.d. row. `confounders` picks and orders the columns, all if empty.
    `baseline`, the published AUC by task, is drawn as a dotted line. What the column `caution` says of all panels is
    printed on top, and `note` below it; what it says of some, on those (no column: nothing). In each panel stands how
    many images its test has, if there are columns `n` and `positives`. Raises StudyError if a panel would mix tasks or
    backbones.
    """
    names = list(dict.fromkeys(confounders or data["confounder"]))
    data, clean = _chosen(data, names, ROWS, alike=("task", "backbone"))
    tasks = dict(zip(data["confounder"], data["task"], strict=True))
    several = len(set(tasks.values())) > 1
    return _panels(
        data,
        rows=("test_set", {test_set: f"{label}\nAUC" for test_set, label in ROWS.items()}),
        columns=("confounder", {name: title_of(name) + f"\n{written(tasks[name], 30)}" * several for name in names}),
        levels={(row, name): baseline[task] for row in ROWS for name, task in tasks.items() if task in baseline},
        empty="no such test, or too few images",
        clean=clean,
        note=note,
    )


def by_task(*, data: pd.DataFrame, confounders: Iterable[str], baseline: Mapping[str, float], note: str = "") -> Figure:
    """Fig. 4: o.o.d. AUC against the confounder's strength, a row a task, a column a confounder.

    As `robustness`; with X-ray and CT as tasks, and the two designs of noise as `confounders`, it is the paper's.
    """
    names = list(confounders)
    data, clean = _chosen(data, names, ["ood"], alike=("backbone",))
    tasks = list(dict.fromkeys(data["task"]))
    return _panels(
        data,
        rows=("task", {task: f"{written(task)}\n{ROWS['ood']}\nAUC" for task in tasks}),
        columns=("confounder", {name: title_of(name) for name in names}),
        levels={(task, name): baseline[task] for task in tasks if task in baseline for name in names},
        empty="no such runs",
        clean=clean,
        note=note,
    )


def against(*, data: pd.DataFrame, note: str = "") -> Figure:
    """Our curves on the published ones: o.o.d. row over i.i.d. row, a column a panel of Figs. 3 and 4.

    `data` is the table of `published.compare`. Ours as in `robustness`; the published means are hollow markers,
    their bars the error of reading them off the paper's figures. `note` says on top what the comparison is worth.
    """
    titles = published.table("panels").set_index("panel")["title"].loc[data["panel"].unique()]
    _alike(data, "panel", ("data", "task", "backbone"))
    return _panels(
        data.rename(columns={"ours": "mean"}),
        rows=("test_set", {test_set: f"{label}\nAUC as published" for test_set, label in ROWS.items()}),
        columns=("panel", titles.to_dict()),
        levels={},
        empty="not published",
        note=textwrap.fill(note, 26 * max(len(titles), 2)),
    )


def _chosen(
    data: pd.DataFrame, names: list[str], test_sets: Iterable[str], alike: Iterable[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of these confounders and test sets, and those of the clean test, as a part of the o.o.d. panels."""
    data = data[data["confounder"].isin(names)]
    clean = data[data["test_set"] == "clean"].assign(test_set="ood")
    data = data[data["test_set"].isin(list(test_sets))]
    _alike(data, "confounder", alike)
    return data, clean


def _alike(data: pd.DataFrame, panel: str, columns: Iterable[str]) -> None:
    for (name, part), column in itertools.product(data.groupby(panel), columns):
        if len(found := sorted(part[column].unique())) > 1:
            raise StudyError(
                f"figure: {name} has more than one {column} ({', '.join(found)}). Draw one at a time: "
                f"data[data.{column} == {found[0]!r}]."
            )


def _panels(
    data: pd.DataFrame,
    *,
    rows: Labels,
    columns: Labels,
    levels: Mapping[tuple[str, str], float],
    empty: str,
    note: str = "",
    clean: pd.DataFrame | None = None,
) -> Figure:
    """A grid of panels with a curve a source, under one legend; `levels` are dotted lines, by row and column.

    A panel without any row says `empty`. Beside what was published (`published.compare`) chance has no line.
    """
    (row_of, labels), (column_of, titles) = rows, columns
    told = data.assign(caution=data.get("caution", ""))
    by_panel = {place: _parts(part["caution"]) for place, part in told.groupby([row_of, column_of])}
    shared = _shared(list(by_panel.values()))
    own = {place: "; ".join(part for part in parts if part not in shared) for place, parts in by_panel.items()}
    theirs, style = "published" in data, styles(data["source"])
    size = 1.0 + 1.75 * max(len(titles), 2), (21 * len(labels) + (8 if theirs else 4)) / 10
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(labels), len(titles), sharex="col", sharey=True, squeeze=False)
    for axes, (row, column) in zip(grid.flat, itertools.product(labels, titles), strict=True):
        if not theirs:
            axes.axhline(0.5, zorder=0, label="chance", **CHANCE)
        if (level := levels.get((row, column))) is not None:
            axes.axhline(level, zorder=0, label=PUBLISHED, **BASELINE)
        panel = data[(data[row_of] == row) & (data[column_of] == column)]
        _curves(axes, panel, style)
        _sizes(axes, panel)
        if clean is not None:
            _thin(axes, clean[(clean[row_of] == row) & (clean[column_of] == column)], style)
        if panel.empty:
            axes.text(0.5, 0.25 if theirs else 0.7, empty, ha="center", fontsize=SMALL, color="#707070")
        axes.set(xlim=(-0.06, 1.06), ylim=(-0.02, 1.02), yticks=np.linspace(0, 1, 6))
        axes.grid(axis="y", color="#EBEBEB", linewidth=0.6)
        axes.set_axisbelow(True)
        frame(axes)
        _say(axes, own.get((row, column), ""), titles[column] if row == next(iter(labels)) else "")
    for bottom, column in zip(grid[-1], titles, strict=True):
        strengths = sorted(data.loc[data[column_of] == column, "p_art"].unique())
        bottom.set_xticks(strengths, [f"{p:.2g}".replace("0.", ".") for p in strengths])
    for axes, label in zip(grid[:, 0], labels.values(), strict=True):
        axes.set_ylabel(label, fontsize=NORMAL)
    fewest, most = data["folds"].min(), data["folds"].max()
    several = (
        f"mean of {most if fewest == most else f'{fewest} to {most}'} folds, 95 % interval: folds and test patients"
    )
    folds = "ours: " * theirs + ("one fold, 95 % interval: test patients only" if most == 1 else several)
    figure.supxlabel(f"strength of the correlation, $p_\\mathrm{{art}}$\n{folds}", fontsize=SMALL + 0.5)
    # One legend above all panels, under the note: the sources first, then the reference lines.
    every = [handle for axes in figure.axes for handle in axes.get_legend_handles_labels()[0]]
    # A source may be called as a reference line is.
    handles = {(not isinstance(handle, ErrorbarContainer), handle.get_label()): handle for handle in every}
    ordered = [handles[key] for key in sorted(handles, key=lambda key: key[0])]
    abreast = 3 if size[0] > 5 else 2
    said = [line for text in ("; ".join(shared), note) for line in text.splitlines()]
    figure.legend(
        # Matplotlib fills column by column, people read rows.
        handles=[handle for start in range(abreast) for handle in ordered[start::abreast]],
        ncols=abreast, loc="outside upper center", frameon=False, handlelength=3.2, fontsize=SMALL + 0.5,
        title="\n".join(literal(textwrap.fill(line, round(LETTERS * size[0]))) for line in said),
        title_fontproperties={"weight": "bold", "size": NORMAL},
    )  # fmt: skip
    return figure


def _say(axes: Axes, caution: str, title: str) -> None:
    """A panel's title, and under it what must be said of this panel alone."""
    lines = textwrap.wrap(caution, 34)
    axes.set_title(title, fontsize=NORMAL, weight="bold", pad=6 + 1.3 * SMALL * len(lines))
    axes.text(
        0.5,
        1.02,
        literal("\n".join(lines)),
        transform=axes.transAxes,
        ha="center",
        va="bottom",
        fontsize=SMALL,
        style="italic",
    )


def _curves(axes: Axes, panel: pd.DataFrame, style: Mapping[str, Style]) -> None:
    """A curve a source, and each published one (where `panel` has them) once, beside our first source laid on it."""
    # Curves stand side by side, so that error bars do not hide each other.
    step = min(0.025, 0.25 * min(np.diff(np.sort(panel["p_art"].unique())), default=0.1))
    aside = {source: (k - (len(style) - 1) / 2) * step for k, source in enumerate(style)}
    for source, look in style.items():
        curve = panel[panel["source"] == source].sort_values("p_art")
        if curve.empty:
            continue
        # Keras's AUC of a perfect ranking can exceed 1 by a rounding error: no bar may be negative.
        low = (curve["mean"] - curve["ci_low"].clip(0, 1)).clip(lower=0)
        high = (curve["ci_high"].clip(0, 1) - curve["mean"]).clip(lower=0)
        axes.errorbar(
            curve["p_art"] + aside[source], curve["mean"], yerr=[low, high],
            label=written(source), color=look.color, marker=look.marker, linestyle=look.linestyle, linewidth=1.3,
            markersize=4, markerfacecolor="white" if look.hollow else look.color,
            markeredgecolor=look.color if look.hollow else "white", markeredgewidth=0.8 if look.hollow else 0.5,
            elinewidth=0.9, capsize=1.8, clip_on=False, zorder=3,
        )  # fmt: skip
        if (weak := curve[curve.get("unlearned", curve["mean"] * 0) > 0]).size:
            axes.plot(
                weak["p_art"] + aside[source], weak["mean"], label=UNLEARNED, color="#707070", marker="x",
                markersize=7, linestyle="", clip_on=False, zorder=5,
            )  # fmt: skip
    if "published" not in panel:
        return
    for source, curve in panel.drop_duplicates(["published_source", "p_art"]).groupby("source", sort=False):
        curve, look = curve.sort_values("p_art"), style[source]
        axes.errorbar(
            curve["p_art"] + aside[source], curve["published"], yerr=curve["read_error"],
            label=f"{curve['published_source'].iloc[0]}, published", color=look.color, marker=look.marker,
            linestyle=(0, (1, 2)), linewidth=0.8, markersize=4.5, markerfacecolor="white", markeredgewidth=0.9,
            elinewidth=2.5, clip_on=False, zorder=4,
        )  # fmt: skip


def _sizes(axes: Axes, panel: pd.DataFrame) -> None:
    """In the panel's lower left corner, how many images its test set has, where the table tells."""
    if "n" in panel and len(panel):
        n, positives = panel[["n", "positives"]].min()
        text = f"n = {n} ({positives} positive)"
        axes.text(0.02, 0.015, text, transform=axes.transAxes, fontsize=SMALL - 1.5, color="#707070")


def _thin(axes: Axes, panel: pd.DataFrame, style: Mapping[str, Style]) -> None:
    """The clean test of each source, without bars; one of them, in grey, stands in the legend."""
    for source, curve in panel.groupby("source"):
        curve = curve.sort_values("p_art")
        axes.plot(curve["p_art"], curve["mean"], color=style[str(source)].color, linewidth=0.6, zorder=2)
    if len(panel):
        axes.plot([], [], color="#707070", linewidth=0.6, label=CLEAN)


def save(figure: Figure, path: Path, table: pd.DataFrame) -> list[Path]:
    """Write `path`.png (200 dpi), .pdf and .csv (the tidy table), always the same bytes, and return the three paths."""
    png, pdf, csv = (path.with_name(f"{path.name}{suffix}") for suffix in (".png", ".pdf", ".csv"))
    with files.replacing(png) as beside:
        figure.savefig(beside, dpi=200)
    # Type 42 keeps the text as text, which journals ask for.
    with files.replacing(pdf) as beside, matplotlib.rc_context({"pdf.fonttype": 42}):
        figure.savefig(beside, dpi=200, metadata={"CreationDate": None})
    files.write_csv(csv, table)
    return [png, pdf, csv]
